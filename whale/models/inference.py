"""What makes imagining faster on a GPU and changes rounding only: matrices in bfloat16, compiled blocks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from whale.models.st_transformer import STBlock


def round_matrices(model: nn.Module) -> None:
    """Hold the matrices of every Linear in bfloat16, in place: what autocast would make of them at each step."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)


def compile_steps(model: nn.Module, backend: str = "inductor") -> None:
    """Compile how each block takes in one new frame; one compilation serves all blocks and lengths of the past."""
    allow_compilations()
    for block in model.modules():
        if isinstance(block, STBlock):
            block.before_past = _for_one_frame(block.before_past, backend)  # type: ignore[method-assign]
            block.after_past = _for_one_frame(block.after_past, backend)  # type: ignore[method-assign]


def allow_compilations() -> None:
    """Several sizes, precisions and modes of one block are no mistake; torch gives up at eight."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)


def _for_one_frame(method: Callable[..., Any], backend: str) -> Callable[..., Any]:
    compiled = torch.compile(method, fullgraph=True, backend=backend)

    def chosen(x_BFND: torch.Tensor, *others: torch.Tensor) -> Any:
        return (compiled if x_BFND.shape[1] == 1 else method)(x_BFND, *others)

    return chosen
