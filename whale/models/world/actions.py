"""The map of raw actions onto what networks take, where the actions lie: on a GPU nothing waits for the processor.

Shapes: ... any leading axes, A action size; the gripper is the last dimension.
"""

from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor


class Normalizer(Protocol):
    """What is needed of `whale.data.segments.actions.ActionNormalizer`: three arrays [A]."""

    low: np.ndarray
    scale: np.ndarray
    dead: np.ndarray


class ActionMap:
    """`ActionNormalizer.normalize` for tensors on any device, to the bit: float64 inside, then float32."""

    def __init__(self, low: Tensor, scale: Tensor, dead: Tensor):
        self._constants = low, scale, dead

    @classmethod
    def of(cls, normalizer: Normalizer) -> Self:
        """The map of one dataset."""
        return cls(*(torch.from_numpy(part.copy()) for part in (normalizer.low, normalizer.scale, normalizer.dead)))

    def __call__(self, raw: Tensor) -> Tensor:
        """[..., A] raw -> float32 in [-1, 1]; the gripper stays as it is, dead dimensions become 0."""
        if self._constants[0].device != raw.device:
            low, scale, dead = (part.to(raw.device) for part in self._constants)
            self._constants = low, scale, dead
        low, scale, dead = self._constants
        exact = raw.to(torch.float64)
        unit = (2.0 * (exact - low) / scale - 1.0).clamp(-1.0, 1.0)
        unit[..., -1] = exact[..., -1]
        return unit.masked_fill(dead, 0.0).to(torch.float32)
