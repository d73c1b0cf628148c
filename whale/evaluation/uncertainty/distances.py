"""Distances between two images, as an argument of whatever needs one; each has a name for protocol strings.

Shapes: B images of any shape.
"""

from typing import Protocol

import torch
from torch import Tensor

from whale.evaluation.uncertainty.uncertainty import Distance


class Features(Protocol):
    """Whatever describes images by features: every world model of world.py does."""

    def features(self, frames: Tensor) -> Tensor: ...


def feature_distance(model: Features) -> Distance:
    """Mean squared difference of a model's features of two images, each described by itself. -> float64 [B]."""

    def distance(left: Tensor, right: Tensor) -> Tensor:
        squared = (model.features(left) - model.features(right)).to(torch.float64).square()
        return squared.flatten(1).mean(dim=1)

    return distance
