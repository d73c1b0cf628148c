"""Folders of .npz files, one episode each: arrays by name, with T rows or without an axis; never a pickle.

A spec reads arrays by name ("action"); one without an axis, such as a text, is the episode's. Pictures are uint8
(T, H, W, 3), or (T, C, H, W) read three planes at a time as "observation[6:9]" (several stacked frames, as replay
buffers keep them), or encoded. T is the length of `action` (`actions`), else of what is read, else the commonest; what
is not read may be anything.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.errors import BadDataError, BeyondLimitError, MissingInputError
from whale.common.printable import brief
from whale.data.ingest.sources.arrays import is_frames, is_planes, pictures, planes
from whale.data.ingest.sources.columns import content_sha256
from whale.data.ingest.sources.source import ALL, ShardFile, grouped, measured
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected
from whale.data.storage.npy import read_npz

LAYOUT = "arrays with the same number of rows, one per step, or without an axis; no pickle"
ACTIONS = ("action", "actions")


class NpzSource:
    """Files in the order of their paths; `name` and `version` are the spec's, as the files know none."""

    rate = columns = None

    def __init__(self, directory: Path, name: str, version: str):
        self.directory, self.name, self.version = Path(directory), name, version
        paths = sorted(path for path in self.directory.rglob("*.npz") if path.is_file())
        self.paths = [path.relative_to(self.directory).as_posix() for path in paths]
        if not self.paths:
            raise MissingInputError("no .npz file", file=directory)
        self.splits: dict[str, list[ShardFile]] = {ALL: grouped([(path,) for path in self.paths], "episodes")}

    @cached_property
    def _first(self) -> "tuple[list[str], dict[str, str]]":
        """(features, what cannot be read) of the first file that can; BadDataError if there is none."""
        reason = ""
        for path in self.paths:
            try:
                arrays, refused = load_arrays(self.directory / path)
                steps = _steps(arrays, None)
                others = {
                    name: f"{len(values)} rows where the others have {len(steps['is_first'])}"
                    for name, values in arrays.items()
                    if values.ndim and len(values) != len(steps["is_first"])
                }
                return sorted({*steps, *_metadata(arrays)}), refused | others
            except EpisodeError as error:
                reason = reason or str(error)
        raise BadDataError("no .npz file can be read", file=self.directory, found=reason, expected=LAYOUT)

    @property
    def features(self) -> list[str]:
        return self._first[0]

    @property
    def left_out(self) -> dict[str, str]:
        return self._first[1]

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
                arrays, _ = load_arrays(path, self.keys)
                steps = _steps(arrays, self.keys)
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


def load_arrays(path: Path, keys: Collection[str] | None = None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays that are read, why others cannot be) of one file; `keys` None: all that can be.

    EpisodeError for bombs and damage of the file, and of an array that is asked for.
    """
    refused: dict[str, str] = {}  # a member that is damaged, a pickle or no array
    try:
        arrays = read_npz(path, refused=refused)
    except BadDataError as error:
        reason = "unsafe" if isinstance(error, BeyondLimitError) else "decode_error"
        detail = f"{error.what}: {error.place or ''} {brief(error.found)} {error.remedy or ''}".rstrip()
        raise EpisodeError(reason, f"{path.name}: {detail}") from None
    for name, what in refused.items():
        if name in ACTIONS if keys is None else _is_read(name, keys):
            raise EpisodeError("decode_error", f"{path.name}: '{name}': {what}")
    if not arrays:
        raise EpisodeError("decode_error", f"{path.name}: nothing can be read: {brief(refused)}")
    return arrays, refused


def _num_steps(rows: dict[str, np.ndarray], keys: Collection[str] | None) -> int:
    """T, as the module says; EpisodeError where what is read does not agree."""
    commands = [len(rows[name]) for name in ACTIONS if name in rows]
    read = {name: len(values) for name, values in rows.items() if keys is not None and _is_read(name, keys)}
    if len(set(read.values())) > 1:
        shapes = {name: rows[name].shape for name in read}
        raise EpisodeError("length_mismatch", f"arrays of different lengths: {shapes}"[:300])
    lengths = list(read.values()) or commands or [len(values) for values in rows.values()]
    if not lengths:
        raise EpisodeError("empty", "no array has an axis, which would be the steps")
    return Counter(lengths).most_common(1)[0][0]


def _is_read(name: str, keys: Collection[str]) -> bool:
    return name in keys or any(key.startswith(f"{name}[") for key in keys)


def _steps(arrays: dict[str, np.ndarray], keys: Collection[str] | None) -> dict[str, Any]:
    """Step features: those with a row for each step."""
    rows = {name: values for name, values in arrays.items() if values.ndim}
    num_steps = _num_steps(rows, keys)
    steps: dict[str, Any] = {}
    for name, values in rows.items():
        if len(values) != num_steps:
            continue
        if is_planes(values.shape, values.dtype) and not is_frames(values.shape, values.dtype):
            steps |= planes(name, values)
        elif values.dtype.kind in "SU":
            steps[name] = [str(value).encode() if values.dtype.kind == "U" else bytes(value) for value in values]
        else:
            steps[name] = pictures(values)
    steps["is_first"] = np.arange(num_steps) == 0
    return steps
