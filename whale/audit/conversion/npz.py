"""Folders of .npz files as numpy reads them; and pictures that are stored as arrays, for HDF5 too.

One file is one episode, in the order of the paths; an array without an axis belongs to the episode.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from whale.audit.conversion.pixels import decoded
from whale.audit.conversion.plain import PlainEpisode

PLANES = re.compile(r"(.+)\[(\d+):(\d+)\]")


class FilesByNumpy:
    how = f"numpy {np.__version__}"

    def __init__(self, directory: Path):
        self.paths = sorted(path for path in Path(directory).rglob("*.npz") if path.is_file())

    def count(self, split: str) -> int:
        return len(self.paths)

    def read(self, split: str, ordinal: int) -> PlainEpisode:
        arrays = {}
        with np.load(self.paths[ordinal], allow_pickle=False) as file:
            for name in file.files:
                try:
                    arrays[name] = file[name]
                except ValueError:  # a pickle: nobody's
                    continue
        rows = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray) and array.ndim}
        lengths = Counter(len(array) for array in rows.values())
        command = rows.get("action", rows.get("actions"))
        num_steps = len(command) if command is not None else lengths.most_common(1)[0][0]
        about = {name: _text(array[()]) for name, array in arrays.items() if name not in rows}
        columns = {name: array for name, array in rows.items() if array.dtype.kind in "biuf"}
        texts = {name: [_text(value) for value in array] for name, array in rows.items() if array.dtype.kind in "SU"}
        return PlainEpisode(num_steps, columns, texts, about, pictures_of(rows.get))


def pictures_of(array_of: Callable[[str], Any]) -> Callable[[str], list[np.ndarray] | None]:
    """Name of a camera -> its pictures: (T, H, W, 3 or 4), (T, C, H, W), encoded, or three planes `name[c:c + 3]`."""

    def pictures(key: str) -> list[np.ndarray] | None:
        planes = PLANES.fullmatch(key)
        array = array_of(planes[1] if planes else key)
        if array is None:
            return None
        if planes:
            return [np.moveaxis(frame[int(planes[2]) : int(planes[3])], 0, 2) for frame in array]
        if len(array.shape) == 4:
            return [frame[..., :3] if array.shape[3] in (3, 4) else np.moveaxis(frame, 0, 2) for frame in array]
        return [decoded(value if isinstance(value, bytes) else np.asarray(value).tobytes()) for value in array]

    return pictures


def _text(value: Any) -> Any:
    return str(value).encode() if isinstance(value, str) else value
