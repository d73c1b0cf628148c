"""Numbers as they are written: flat dotted keys, six significant digits, null where nothing was measured; arrays."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Value = float | int | str | None


def under(prefix: str, metrics: Mapping[str, object]) -> dict[str, object]:
    """The same metrics with `prefix.` before every key."""
    return {f"{prefix}.{key}": value for key, value in metrics.items()}


def written(metrics: Mapping[str, object]) -> dict[str, Value]:
    """Sorted by key; floats rounded to six significant digits, so that float noise of the last bits does not show.

    NaN and infinity become None: JSON has neither, and 0 would be a lie.
    """
    return {key: _value(metrics[key]) for key in sorted(metrics)}


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """One .npz without pickle; members carry the zip format's fixed date, so equal arrays give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]


def _value(value: object) -> Value:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    number = float(value)  # type: ignore[arg-type]
    return float(f"{number:.6g}") if math.isfinite(number) else None
