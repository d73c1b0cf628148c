"""The search for a bad sample computes as the training did: what overflows in bfloat16 only must be found."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from whale.training.loop.gradient_step import GradientStep
from whale.training.loop.non_finite import bad_samples


class Overflows(nn.Module):
    """Its loss is not finite where products are rounded to bfloat16: 1 + 2^-10 is 1 there."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1 + 2**-10]]))

    def forward(self, batch):
        return 1 / (batch["x"] @ self.weight.T - 1).float().abs().sum(), {}


@pytest.mark.parametrize(("precision", "expected"), [("float32", [False, False]), ("bfloat16", [True, False])])
def test_a_sample_is_looked_at_in_the_precision_of_training(precision, expected):
    model = Overflows()
    step = GradientStep(model, model, None, SimpleNamespace(precision=precision), None)
    batch = {"x": torch.tensor([[1.0], [3.0]]), "sample_index": torch.arange(2)}
    assert bad_samples(model, batch, step.autocast) == expected
