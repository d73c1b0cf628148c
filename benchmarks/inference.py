"""What shall make imagining faster on a GPU and changes rounding only: matrices in bfloat16, compiled blocks.

Never run on a GPU yet, so it stands here and not in the package.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from whale.models.trunk.st_transformer import STBlock
from whale.training.loop.wrapping import allow_compilations


def round_matrices(model: nn.Module) -> None:
    """Hold the matrices of every Linear in bfloat16, in place: what autocast would make of them at each step."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)


def compile_steps(model: nn.Module, backend: str = "inductor") -> None:
    """Compile how each block takes in one new frame, once for a model: all blocks share what is compiled.

    A first frame, later ones, each precision and size are compilations of their own.
    """
    allow_compilations()
    for block in model.modules():
        if isinstance(block, STBlock):
            block.before_past = _for_one_frame(block.before_past, backend)  # type: ignore[method-assign]
            block.after_past = _for_one_frame(block.after_past, backend)  # type: ignore[method-assign]


def _for_one_frame(method: Callable[..., Any], backend: str) -> Callable[..., Any]:
    compiled = torch.compile(method, fullgraph=True, backend=backend)

    def chosen(x_BFND: torch.Tensor, *others: torch.Tensor) -> Any:
        return (compiled if x_BFND.shape[1] == 1 else method)(x_BFND, *others)

    return chosen
