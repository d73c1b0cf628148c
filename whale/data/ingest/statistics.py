"""Action statistics of one dataset: train split, valid steps, raw units.

One dimension at a time, in float64: 16 bytes a step at once (430 MB for the 27 M steps of DROID); the parts themselves
may be memory-mapped. The deviation is that from the mean, never mean(x^2) - mean(x)^2: at 1000 +- 0.01 in float32 that
gives 0. Shapes: N steps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from whale.common.errors import BadDataError

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def action_statistics(parts: Sequence[np.ndarray], mask: Sequence[bool], num_trajectories: int) -> dict[str, Any]:
    """statistics.json. `parts`: float32 (N, 7) of valid train steps, in the order of the shards.

    mask: from the contract's `live`. Raises BadDataError when there is no valid step.
    """
    arrays = [part for part in parts if len(part)]
    if not arrays:
        raise BadDataError("no valid train step: there is nothing to compute statistics of")
    columns = [_column(arrays, dimension) for dimension in range(arrays[0].shape[1])]
    count = sum(map(len, arrays))
    values = {name: [column[name] for column in columns] for name in columns[0]}
    action = {"count": count, **values, "mask": list(mask)}
    return {"action": action, "num_transitions": count, "num_trajectories": num_trajectories}


def _column(arrays: Sequence[np.ndarray], dimension: int) -> dict[str, float]:
    """Of one dimension."""
    values_N = np.concatenate([array[:, dimension] for array in arrays]).astype(np.float64)
    quantiles = np.quantile(values_N, list(QUANTILES.values()))
    return {
        "mean": float(values_N.mean()),
        "std": float(values_N.std()),
        "min": float(values_N.min()),
        "max": float(values_N.max()),
        **{name: float(value) for name, value in zip(QUANTILES, quantiles, strict=True)},
        "zero_share": float((values_N == 0.0).mean()),
    }
