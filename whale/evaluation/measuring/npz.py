"""Arrays on disk: one .npz, no pickle, equal bytes for equal arrays."""

from pathlib import Path

import numpy as np


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """One .npz without pickle; members carry the zip format's fixed date, so equal arrays give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
