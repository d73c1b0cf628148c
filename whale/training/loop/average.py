"""Exponential moving average of the weights: e <- d e + (1 - d) w after each step, in the weights' own type.

The decay of step s is min(d, (1 + s) / (10 + s)), so that a short run is not an average of its initial weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of every parameter of `model` by name; buffers are the model's own."""

    def __init__(self, model: nn.Module, decay: float):
        self.model, self.decay = model, decay
        self.values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after 0-based `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.model.named_parameters():
            self.values[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def exchange(self) -> None:
        """Put the average into the model and the model's weights here; a second call undoes it."""
        for name, parameter in self.model.named_parameters():
            kept = parameter.detach().clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(kept)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the average as weights."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def tensors(self) -> dict[str, Tensor]:
        """What a restart needs."""
        return self.values
