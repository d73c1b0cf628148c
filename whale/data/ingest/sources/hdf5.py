"""HDF5 datasets in robomimic's form (LIBERO, robosuite): <file>.hdf5 with data/demo_<i>/{actions, obs/<key>, ...}.

A spec reads names below the demo ("actions", "obs/agentview_rgb"). Attributes are text, never evaluated; only plain,
local, bounded arrays are read: links (to a demo or below it) and virtual or external storage are refused.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from whale.common.errors import BadDataError, MissingInputError
from whale.common.limits import CHUNK_BYTES, FRAMES_BYTES, NUMBERS_BYTES, RATIO, TABLES_OF_TEXT_BYTES
from whale.data.ingest.sources.arrays import ArrayFrames, is_frames
from whale.data.ingest.sources.columns import content_sha256
from whale.data.ingest.sources.hdf5_probe import require_passable, serve
from whale.data.ingest.sources.source import ALL, ShardFile, measured
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected

MODULE = "whale.data.ingest.sources.hdf5"  # also where this is a program
SUFFIXES = (".hdf5", ".h5")
DEMO = re.compile(r"demo_(\d{1,7})")
FILTERS = (None, "gzip", "lzf")
MAX_DEPTH, MAX_NODES = 8, 4096
RENAMED = {"rewards": "reward"}
DAMAGE = (OSError, ValueError, KeyError, TypeError, RuntimeError)  # what h5py raises; an EpisodeError is a ValueError


class Hdf5Source:
    """One file is one unit; demos are counted through files in the order of their names, demo_2 before demo_10."""

    def __init__(self, directory: Path, name: str, version: str):
        self.directory, self.name, self.version = Path(directory), name, version
        paths = sorted(path for path in self.directory.rglob("*") if path.suffix in SUFFIXES and path.is_file())
        if not paths:
            raise MissingInputError("no HDF5 file", file=directory, expected=" or ".join(f"*{s}" for s in SUFFIXES))
        require_passable(paths, MODULE)
        self.demos: dict[str, list[str]] = {}
        units, first = [], 0
        for path in paths:
            file = path.relative_to(self.directory).as_posix()
            self.demos[file] = _demo_names(path)
            units.append(ShardFile(file, len(self.demos[file]), first, (file,)))
            first += len(self.demos[file])
        self.splits: dict[str, list[ShardFile]] = {ALL: units}

    @property
    def features(self) -> list[str]:
        file, demos = next((each for each in self.demos.items() if each[1]), ("", []))
        if not demos:
            return []
        try:
            with open_hdf5(self.directory / file) as opened:
                demo = _demo(opened["data"], demos[0])
                found = _datasets(demo)
                names = {name for name, values in found.items() if values.shape and values.dtype.kind in "biufSO"}
                text = _text_attributes(opened["data"], demo)
        except DAMAGE as error:
            raise BadDataError(
                "the first demo cannot be read", file=self.directory / file, place=f"data/{demos[0]}",
                found=f"{type(error).__name__}: {error}"[:200],
            ) from None  # fmt: skip
        return sorted({*names, *(RENAMED[name] for name in names & RENAMED.keys()), *text, "is_first"})

    def read_shard(
        self, split: str, index: int, keys: Collection[str] | None = None, hashed: bool = True
    ) -> "Hdf5Reader":
        return Hdf5Reader(self, self.splits[split][index], keys, hashed)


class Hdf5Reader:
    """The demos of one file; frames are read from it while they are used."""

    def __init__(self, source: Hdf5Source, shard: ShardFile, keys: Collection[str] | None, hashed: bool):
        self.hashed = hashed
        self.path, self.shard, self.keys = source.directory / shard.file, shard, keys
        self.demos = source.demos[shard.file]
        self.files: dict[str, tuple[int, str]] = {}

    def __iter__(self) -> Iterator[RawEpisode | Rejected]:
        self.files = {self.shard.file: measured(self.path, self.hashed)}
        opened = open_hdf5(self.path)  # closed when the last episode's frames are forgotten
        for number, name in enumerate(self.demos):
            yield self._outcome(opened["data"], name, number)

    def _outcome(self, data: h5py.Group, name: str, number: int) -> RawEpisode | Rejected:
        try:
            return self._episode(data, name, number)
        except EpisodeError as error:
            return Rejected(error.reason, f"{name}: {error}", self.shard.file, number)
        except DAMAGE as error:
            return Rejected("decode_error", f"{name}: {error}", self.shard.file, number)

    def _episode(self, data: h5py.Group, name: str, number: int) -> RawEpisode:
        demo = _demo(data, name)
        arrays = _datasets(demo)
        if "actions" not in arrays:
            raise EpisodeError("missing_key", "no 'actions'; the number of steps is its length")
        num_steps = len(arrays["actions"])
        claimed = demo.attrs.get("num_samples", num_steps)
        if int(claimed) != num_steps:
            raise EpisodeError("length_mismatch", f"num_samples says {claimed}, actions has {num_steps}")
        wanted = {key: values for key, values in arrays.items() if self.keys is None or _is_wanted(key, self.keys)}
        steps = {key: _step_feature(key, values, num_steps) for key, values in wanted.items()}
        plain = {key: values for key, values in steps.items() if isinstance(values, np.ndarray)}
        digest = content_sha256(plain, [self.files[self.shard.file][1], name])
        steps |= {new: steps[old] for old, new in RENAMED.items() if old in steps}
        steps["is_first"] = np.arange(num_steps) == 0
        metadata: dict[str, Any] = {"demo": name.encode(), **_text_attributes(data, demo)}
        return RawEpisode(steps, num_steps, metadata, self.shard.file, number, -1, digest)


def look_over(path: Path) -> None:
    """Everything that is followed before data are read, and the first and last row of each array."""
    with open_hdf5(path) as opened:
        data = opened["data"]
        _text_attributes(data)
        for name in _demo_names(path):
            demo = _demo(data, name)
            _text_attributes(demo)
            demo.attrs.get("num_samples")
            for node in _datasets(demo).values():
                if node.shape and node.shape[0]:
                    node[0], node[-1]


def open_hdf5(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise BadDataError("not a readable HDF5 file", file=path, found=str(error)[:200]) from None


def _demo_names(path: Path) -> list[str]:
    try:
        with open_hdf5(path) as opened:
            if not _is_own_group(opened, "data"):
                raise BadDataError("no group data/", file=path, found=sorted(opened), expected="data/demo_<i>")
            data = opened["data"]
            numbered = sorted((int(match[1]), name) for name in data if (match := DEMO.fullmatch(name)))
            foreign = [name for _, name in numbered if not _is_own_group(data, name)]
    except DAMAGE as error:
        raise BadDataError("not a readable HDF5 file", file=path, found=str(error)[:200]) from None
    if foreign:
        raise BadDataError(
            "a demo is a link or no group", file=path, place=f"data/{foreign[0]}", found=foreign[:5],
            expected="groups of this file", remedy="copy the demos into the file, or leave the file out",
        )  # fmt: skip
    return [name for _, name in numbered]


def _is_own_group(parent: h5py.Group, name: str) -> bool:
    """The link is looked at before it is followed: what it leads to may be another file."""
    return isinstance(parent.get(name, getlink=True), h5py.HardLink) and isinstance(parent[name], h5py.Group)


def _demo(data: h5py.Group, name: str) -> h5py.Group:
    if not _is_own_group(data, name):
        raise EpisodeError("unsafe", f"'{name}' is a link to elsewhere or no group")
    return data[name]


def _datasets(demo: h5py.Group) -> dict[str, h5py.Dataset]:
    """Flattened name -> dataset; anything but hard links to plain arrays is refused."""
    return dict(_walk(demo, "", 0, count(1)))


def _walk(group: h5py.Group, prefix: str, depth: int, visits: Iterator[int]) -> Iterator[tuple[str, h5py.Dataset]]:
    """`visits` counts over all groups: hard links may show one group many times."""
    if depth > MAX_DEPTH:
        raise EpisodeError("unsafe", "groups nested too deep")
    for name in sorted(group):
        if next(visits) > MAX_NODES:
            raise EpisodeError("unsafe", f"more than {MAX_NODES} groups and arrays")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise EpisodeError("unsafe", f"'{prefix}{name}' is a link to elsewhere")
        node = group[name]
        if isinstance(node, h5py.Group):
            yield from _walk(node, f"{prefix}{name}/", depth + 1, visits)
        elif isinstance(node, h5py.Dataset):
            _check_dataset(node, f"{prefix}{name}")
            yield f"{prefix}{name}", node


def _check_dataset(node: h5py.Dataset, name: str) -> None:
    if node.is_virtual or node.external is not None:
        raise EpisodeError("unsafe", f"'{name}' is stored in another file")
    if node.compression not in FILTERS:
        raise EpisodeError("unsafe", f"'{name}' needs the filter {node.compression}")
    if node.size is None or node.size * max(node.dtype.itemsize, 1) > FRAMES_BYTES:
        raise EpisodeError("unsafe", f"'{name}' has shape {node.shape}, more than {FRAMES_BYTES} bytes")
    if node.chunks and math.prod(node.chunks) * max(node.dtype.itemsize, 1) > CHUNK_BYTES:
        raise EpisodeError("unsafe", f"'{name}' has chunks of {node.chunks}, more than {CHUNK_BYTES} bytes")
    stored = node.id.get_storage_size()
    if node.size * node.dtype.itemsize > RATIO * max(stored, 1):
        raise EpisodeError("unsafe", f"'{name}' has shape {node.shape}, made of {stored} bytes")


def _is_wanted(key: str, keys: Collection[str]) -> bool:
    return key in keys or key == "actions" or RENAMED.get(key) in keys


def _step_feature(key: str, node: h5py.Dataset, num_steps: int) -> np.ndarray | Sequence[bytes]:
    if not node.shape or node.shape[0] != num_steps:
        raise EpisodeError("length_mismatch", f"'{key}' has shape {node.shape}, actions has {num_steps} steps")
    if is_frames(node.shape, node.dtype):
        return ArrayFrames(node)
    if node.size * node.dtype.itemsize > NUMBERS_BYTES:
        raise EpisodeError("unsafe", f"'{key}' has shape {node.shape}, more than {NUMBERS_BYTES} bytes")
    if node.dtype.kind in "biuf":
        return np.asarray(node[()])
    if node.dtype.kind == "S" or h5py.check_string_dtype(node.dtype) is not None:
        return _texts(node, key)
    raise EpisodeError("dtype_mismatch", f"'{key}' is of type {node.dtype}")


def _texts(node: h5py.Dataset, key: str) -> list[bytes]:
    """Text of any length: a file may show one long text as often as it likes."""
    texts, size = [], 0
    for number in range(len(node)):
        texts.append(bytes(node[number]))
        size += len(texts[-1])
        if size > NUMBERS_BYTES:
            raise EpisodeError("unsafe", f"'{key}' holds more than {NUMBERS_BYTES} bytes of text")
    return texts


def _text_attributes(*nodes: h5py.Group) -> dict[str, bytes]:
    """Short text attributes; LIBERO's instruction stands in the JSON of `problem_info`."""
    texts: dict[str, bytes] = {}
    for node in nodes:
        for name, value in node.attrs.items():
            if (
                isinstance(value, str | bytes)
                and len(value) <= TABLES_OF_TEXT_BYTES
                and name not in ("model_file", "env_args")
            ):
                texts[name] = value.encode() if isinstance(value, str) else value
    try:
        instruction = json.loads(texts.get("problem_info", b"{}")).get("language_instruction")
    except (ValueError, AttributeError, RecursionError):
        return texts
    return texts | ({"language_instruction": str(instruction).encode()} if instruction else {})


if __name__ == "__main__":
    serve(look_over)
