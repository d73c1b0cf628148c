"""RLDS as TensorFlow Datasets reads it: its own split arithmetic and parser; pictures by OpenCV."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from whale.audit.conversion.pixels import decoded
from whale.audit.conversion.plain import PlainEpisode
from whale.runtime.tfds_reader import TfdsReader


class RldsByTfds:
    def __init__(self, directory: Path):
        self.reader = TfdsReader(directory)
        self.how = f"tensorflow_datasets {self.reader.version}"

    def count(self, split: str) -> int:
        return self.reader.count(split)

    def read(self, split: str, ordinal: int) -> PlainEpisode:
        steps, about = self.reader.episode(split, ordinal)
        columns: dict[str, Any] = {}
        texts: dict[str, list[bytes]] = {}
        stacked: dict[str, list[np.ndarray]] = {}
        for name in steps[0] if steps else ():
            values = [step[name] for step in steps]
            first = np.asarray(values[0])
            if isinstance(values[0], bytes):
                texts[name] = values
            elif first.dtype == np.uint8 and first.ndim == 3:
                stacked[name] = values
            elif first.dtype.kind in "biuf":
                columns[name] = np.stack(values)

        @cache
        def pictures(key: str) -> list[np.ndarray] | None:
            return [decoded(data) for data in texts[key]] if key in texts else stacked.get(key)

        return PlainEpisode(len(steps), columns, texts, about, pictures)
