"""Shards as anybody reads them: pyarrow for the index, tarfile for a sample, numpy and OpenCV for what is in it."""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from whale.audit.conversion.pixels import decoded
from whale.common.boundary import reading
from whale.common.errors import BadDataError
from whale.common.json_files import parse_json
from whale.common.limits import READING_BYTES, TABLE_ROWS

ROW = ["key", "split", "kept", "reason", "shard"]


@dataclass(frozen=True)
class Sample:
    """One episode of a shard: arrays by name, encoded frames by camera in order, and episode.json."""

    arrays: dict[str, np.ndarray]
    frames: dict[str, list[bytes]]
    about: dict[str, Any]

    def pixels(self, role: str) -> list[np.ndarray]:
        return [decoded(data) for data in self.frames[role]]


def index_rows(directory: Path) -> list[dict[str, Any]]:
    """One for each episode of the source, kept or not. BadDataError for what is no such table."""
    path = directory / "episodes.parquet"
    with reading(path, "not a readable parquet file", memory=READING_BYTES), pq.ParquetFile(path) as file:
        if file.metadata.num_rows > TABLE_ROWS:
            raise BadDataError("too large when read", file=path, found=f"{file.metadata.num_rows} rows",
                               expected=f"<= {TABLE_ROWS} rows")  # fmt: skip
        if missing := sorted(set(ROW) - set(file.schema_arrow.names)):
            raise BadDataError("columns are missing", file=path, found=file.schema_arrow.names, expected=missing)
        return file.read(ROW).to_pylist()


def read_sample(directory: Path, shard: str, key: str) -> Sample:
    """BadDataError if the shard does not hold the whole episode; nothing is unpacked to disk."""
    with reading(directory / shard, "not a readable shard", place=key, memory=READING_BYTES):
        return _sample(directory / shard, key)


def _sample(path: Path, key: str) -> Sample:
    arrays: dict[str, np.ndarray] = {}
    frames: dict[str, dict[int, bytes]] = {}
    about: dict[str, Any] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            name, _, suffix = member.name.partition(".")
            if name != key or (stream := tar.extractfile(member)) is None:
                continue
            data = stream.read()
            if suffix.endswith(".npy"):
                arrays[suffix.removesuffix(".npy")] = np.load(io.BytesIO(data), allow_pickle=False)
            elif suffix == "episode.json":
                about = parse_json(data, path, key)
            else:
                role, step, _ = suffix.split(".")
                frames.setdefault(role, {})[int(step)] = data
    if not about or "action" not in arrays:
        raise KeyError(f"{key} is not in {path.name}")
    ordered = {role: [steps[step] for step in sorted(steps)] for role, steps in frames.items()}
    return Sample(arrays, ordered, about)
