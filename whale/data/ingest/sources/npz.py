"""Folders of .npz files, one episode each: arrays by name, all with T rows or without an axis; never a pickle.

A spec reads arrays by name ("action"); one without an axis, such as a text, is the episode's. Pictures are uint8
(T, H, W, 3), or (T, C, H, W) read three planes at a time as "observation[6:9]" (several stacked frames, as replay
buffers keep them).
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.errors import BadDataError, MissingInputError
from whale.common.printable import brief
from whale.data.ingest.sources.arrays import ArrayFrames, is_frames, is_planes
from whale.data.ingest.sources.columns import content_sha256
from whale.data.ingest.sources.source import ALL, ShardFile, grouped, measured
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected
from whale.data.storage.npy import read_npz

LAYOUT = "arrays with the same number of rows, one per step, or without an axis; no pickle"


class NpzSource:
    """Files in the order of their paths; `name` and `version` are the spec's, as the files know none."""

    def __init__(self, directory: Path, name: str, version: str):
        self.directory, self.name, self.version = Path(directory), name, version
        paths = sorted(path for path in self.directory.rglob("*.npz") if path.is_file())
        self.paths = [path.relative_to(self.directory).as_posix() for path in paths]
        if not self.paths:
            raise MissingInputError("no .npz file", file=directory)
        self.splits: dict[str, list[ShardFile]] = {ALL: grouped([(path,) for path in self.paths], "episodes")}

    @property
    def features(self) -> list[str]:
        """Of the first file that can be read; BadDataError if there is none."""
        reason = ""
        for path in self.paths:
            try:
                arrays = load_arrays(self.directory / path)
                return sorted({*_steps(arrays), *_metadata(arrays)})
            except EpisodeError as error:
                reason = reason or str(error)
        raise BadDataError("no .npz file can be read", file=self.directory, found=reason, expected=LAYOUT)

    def read_shard(
        self, split: str, index: int, keys: Collection[str] | None = None, hashed: bool = True
    ) -> "NpzReader":
        return NpzReader(self, self.splits[split][index], keys, hashed)


class NpzReader:
    def __init__(self, source: NpzSource, shard: ShardFile, keys: Collection[str] | None, hashed: bool):
        self.source, self.shard, self.keys, self.hashed = source, shard, keys, hashed
        self.files: dict[str, tuple[int, str]] = {}

    def __iter__(self) -> Iterator[RawEpisode | Rejected]:
        for number, file in enumerate(self.shard.files):
            path = self.source.directory / file
            self.files[file] = measured(path, self.hashed)
            try:
                arrays = load_arrays(path)
                steps = _steps(arrays)
            except EpisodeError as error:
                yield Rejected(error.reason, str(error), file, number)
                continue
            wanted = {key: value for key, value in steps.items() if self.keys is None or key in self.keys}
            digest = content_sha256({}, [self.files[file][1]])
            yield RawEpisode(wanted, len(steps["is_first"]), _metadata(arrays), file, number, -1, digest)


def _metadata(arrays: dict[str, np.ndarray]) -> dict[str, object]:
    """Arrays without an axis belong to the whole episode."""
    return {name: _of_episode(values) for name, values in arrays.items() if values.ndim == 0}


def _of_episode(value: np.ndarray) -> object:
    """A single value of an episode; text as the bytes that other formats give."""
    if value.dtype.kind == "U":
        return str(value).encode()
    return bytes(value[()]) if value.dtype.kind == "S" else value


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of one file; EpisodeError for pickles, bombs and damage."""
    try:
        return read_npz(path)
    except BadDataError as error:
        reason = "unsafe" if "too m" in error.what else "decode_error"
        raise EpisodeError(reason, f"{path.name}: {error.what}: {error.place or ''} {brief(error.found)}") from None


def _steps(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Step features; T is the length that all arrays share."""
    rows = {name: values for name, values in arrays.items() if values.ndim}
    lengths = {len(values) for values in rows.values()}
    if len(lengths) != 1:
        shapes = {name: values.shape for name, values in rows.items()}
        raise EpisodeError("length_mismatch", f"arrays of different lengths: {shapes}"[:300])
    steps: dict[str, Any] = {}
    for name, values in rows.items():
        if is_frames(values.shape, values.dtype):
            steps[name] = ArrayFrames(values)
        elif is_planes(values.shape, values.dtype):
            steps |= {f"{name}[{c}:{c + 3}]": ArrayFrames(values, channels=c) for c in range(0, values.shape[1], 3)}
        elif values.dtype.kind in "SU":
            steps[name] = [str(value).encode() if values.dtype.kind == "U" else bytes(value) for value in values]
        else:
            steps[name] = values
    (num_steps,) = lengths
    steps["is_first"] = np.arange(num_steps) == 0
    return steps
