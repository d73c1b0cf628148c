"""Arithmetic of a model, counted by torch while it runs: matrix products, convolutions and attention, in FLOP."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

TRAINING = 3  # one forward pass, two for the gradients of weights and of activations


def training_flops(model: nn.Module, batch: Mapping[str, Tensor]) -> float:
    """FLOP of one training step on `batch`, which goes through the model once, forward."""
    was_training = model.training
    # A mode that looks at operators makes the compiler skip what it shall compile, which `fullgraph` refuses.
    as_written = torch.compiler.set_stance("force_eager")
    counting = FlopCounterMode(display=False, custom_mapping=_known_to_us_alone())
    with as_written, torch.no_grad(), counting:
        model.eval()(dict(batch))
    model.train(was_training)
    return TRAINING * float(counting.get_total_flops())


def _known_to_us_alone() -> dict[Any, Callable[..., int]]:
    """torch's counter passes over the product that whale.models.trunk.linear takes on a CPU."""
    return {torch.ops.mkldnn._linear_pointwise: _product} if torch.backends.mkldnn.is_available() else {}


def _product(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    """[..., I] by [O, I]: a multiplication and an addition each."""
    return 2 * prod(x) * weight[0]
