"""Numbers as they are written: flat dotted keys, six significant digits, null where nothing was measured; arrays."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def folded(metrics: Mapping[str, Value]) -> dict[str, Any]:
    """Dotted keys as nested mappings, for people who read the file; `flattened` gives the same keys again.

    `psnr` and `psnr.low` stay beside each other: a key that is a number is no mapping, too.
    """
    nested: dict[str, Any] = {}
    for key, value in metrics.items():
        words, place = key.split("."), nested
        depth = next((n for n in range(1, len(words)) if ".".join(words[:n]) in metrics), len(words)) - 1
        for word in words[:depth]:
            place = place.setdefault(word, {})
        place[".".join(words[depth:])] = value
    return nested


def flattened(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in metrics.items():
        inner = flattened(value) if isinstance(value, Mapping) else {}
        flat |= {f"{key}.{name}": each for name, each in inner.items()} if inner else {key: value}
    return flat


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """One .npz without pickle; members carry the zip format's fixed date, so equal arrays give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]


def _value(value: object) -> Value:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    number = float(value)  # type: ignore[arg-type]
    return float(f"{number:.6g}") if math.isfinite(number) else None
