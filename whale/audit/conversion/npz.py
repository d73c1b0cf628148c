"""Folders of .npz files as numpy reads them.

One file is one episode, in the order of the paths; an array without an axis belongs to the episode.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from whale.audit.conversion.pixels import pictures_of
from whale.audit.conversion.plain import PlainEpisode


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


def _text(value: Any) -> Any:
    return str(value).encode() if isinstance(value, str) else value
