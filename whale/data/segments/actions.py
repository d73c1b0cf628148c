"""Raw canonical actions <-> normalised ones, by the 1 % and 99 % quantiles of one dataset.

Shapes: ... any leading shape, A = 7. The gripper (last dimension, in [0, 1]) is left alone, as OpenVLA does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from whale.common.errors import BadDataError

ACTION_SIZE = 7  # the canonical action: dx dy dz, droll dpitch dyaw, gripper
# A dimension whose range is below this carries no information; a quantile range below it can't be divided by.
SMALLEST_RANGE = 1.0e-6


class ActionNormalizer:
    """Maps [low, high] to [-1, 1] with clipping; dead dimensions give 0 and come back as their constant.

    low, high = q01, q99; where those coincide although the values do not (degenerate), min and max instead.
    mask: bool (7,), false where the dimension carries no information: it normalises to 0.
    """

    def __init__(self, q01: np.ndarray, q99: np.ndarray, mask: np.ndarray, minimum: np.ndarray, maximum: np.ndarray):
        q01, q99, minimum, maximum = (np.asarray(v, np.float64) for v in (q01, q99, minimum, maximum))
        self.mask = np.asarray(mask, bool)
        if not all(v.shape == (7,) for v in (q01, q99, minimum, maximum, self.mask)):
            raise BadDataError("action statistics are not 7 numbers each", found=[np.shape(q01), self.mask.shape])
        self.constant = minimum
        self.dead = ~self.mask | (maximum - minimum < SMALLEST_RANGE)
        self.dead[6] = not self.mask[6]  # a gripper that never moves still says open or closed
        degenerate = q99 - q01 < SMALLEST_RANGE
        self.low = np.where(degenerate, minimum, q01)
        self.high = np.where(degenerate, maximum, q99)
        self.scale = np.where(self.dead, 1.0, self.high - self.low)

    @classmethod
    def from_statistics(cls, statistics: Mapping[str, Any]) -> Self:
        """From statistics.json of ONE dataset (or its entry in mix/statistics.json)."""
        action = statistics["action"]
        return cls(action["q01"], action["q99"], action["mask"], action["min"], action["max"])

    def normalize(self, action: np.ndarray) -> np.ndarray:
        """(..., 7) raw -> float32 in [-1, 1]; the gripper stays in [0, 1]; dead dimensions become 0."""
        return _normalize(action, self.low, self.scale, self.dead)

    def denormalize(self, action: np.ndarray) -> np.ndarray:
        """(..., 7) in [-1, 1] -> float32 raw units; exact inverse inside [low, high]."""
        unit = np.asarray(action, np.float64)
        raw = (unit + 1.0) / 2.0 * self.scale + self.low
        raw[..., 6] = unit[..., 6]
        return np.where(self.dead, self.constant, raw).astype(np.float32)


def normalize_each(normalizers: Sequence[ActionNormalizer], action_nTA: np.ndarray) -> np.ndarray:
    """Sample i by normalizers[i]: a batch of several datasets at once, as `normalize` gives each."""
    low, scale, dead = (np.stack([getattr(each, name) for each in normalizers]) for name in ("low", "scale", "dead"))
    return _normalize(action_nTA, low[:, None], scale[:, None], dead[:, None])


def _normalize(action: np.ndarray, low: np.ndarray, scale: np.ndarray, dead: np.ndarray) -> np.ndarray:
    raw = np.asarray(action, np.float64)
    unit = np.clip(2.0 * (raw - low) / scale - 1.0, -1.0, 1.0)
    unit[..., 6] = raw[..., 6]
    return np.where(dead, 0.0, unit).astype(np.float32)
