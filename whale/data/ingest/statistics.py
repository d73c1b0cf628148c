"""Action statistics of one dataset: train split, valid steps, raw units.

Mean and deviation by Chan's merge in float64 in the given order; quantiles exact, one dimension at a time: 16 bytes a
step at once (430 MB for the 27 M steps of DROID), the parts themselves may be memory-mapped. Never mean(x^2) -
mean(x)^2: at 1000 +- 0.01 in float32 that gives a deviation of 0. Shapes: N steps, A = 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from whale.common.errors import BadDataError

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations per dimension."""

    count: int
    mean_A: np.ndarray
    squares_A: np.ndarray

    @classmethod
    def of(cls, values_NA: np.ndarray) -> "Moments":
        values_NA = values_NA.astype(np.float64)
        mean_A = values_NA.mean(axis=0) if len(values_NA) else np.zeros(values_NA.shape[1])
        return cls(len(values_NA), mean_A, np.square(values_NA - mean_A).sum(axis=0))

    def merge(self, other: "Moments") -> "Moments":
        """Chan, Golub, LeVeque 1983: moments of both parts together."""
        count = self.count + other.count
        if count == 0:
            return self
        delta_A = other.mean_A - self.mean_A
        mean_A = self.mean_A + delta_A * (other.count / count)
        squares_A = self.squares_A + other.squares_A + np.square(delta_A) * (self.count * other.count / count)
        return Moments(count, mean_A, squares_A)

    @property
    def std_A(self) -> np.ndarray:
        """Population deviation, as numpy's default."""
        return np.sqrt(self.squares_A / self.count)


def action_statistics(parts: Sequence[np.ndarray], mask: Sequence[bool], num_trajectories: int) -> dict[str, Any]:
    """statistics.json. `parts`: float32 (N, 7) of valid train steps, in the order of the shards.

    mask: from the contract's `live`. Raises BadDataError when there is no valid step.
    """
    arrays = [part for part in parts if len(part)]
    if not arrays:
        raise BadDataError("no valid train step: there is nothing to compute statistics of")
    moments = reduce(Moments.merge, map(Moments.of, arrays))
    columns = [_column(arrays, dimension) for dimension in range(arrays[0].shape[1])]
    action = {
        "count": moments.count,
        "mean": moments.mean_A.tolist(),
        "std": moments.std_A.tolist(),
        **{name: [column[name] for column in columns] for name in columns[0]},
        "mask": list(mask),
    }
    return {"action": action, "num_transitions": moments.count, "num_trajectories": num_trajectories}


def _column(arrays: Sequence[np.ndarray], dimension: int) -> dict[str, float]:
    """Extremes, quantiles and share of zeros of one dimension."""
    values_N = np.concatenate([array[:, dimension] for array in arrays]).astype(np.float64)
    quantiles = np.quantile(values_N, list(QUANTILES.values()))
    return {
        "min": float(values_N.min()),
        "max": float(values_N.max()),
        **{name: float(value) for name, value in zip(QUANTILES, quantiles, strict=True)},
        "zero_share": float((values_N == 0.0).mean()),
    }
