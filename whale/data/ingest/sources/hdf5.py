"""HDF5 datasets in robomimic's form (LIBERO, robosuite): <file>.hdf5 with data/demo_<i>/{actions, obs/<key>, ...}.

A spec reads names below the demo ("actions", "obs/agentview_rgb"). Attributes are text, never evaluated; only plain,
local, bounded arrays are read: links (to a demo or below it) and virtual or external storage are refused to whoever
asks for them. The lists of demos in mask/<name> are splits, beside `all`.
"""

import math
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from whale.common.boundary import reading
from whale.common.errors import BadDataError, MissingInputError
from whale.common.impostors import refuse_pointers
from whale.common.json_files import parse_object
from whale.common.limits import (
    CHUNK_BYTES,
    FRAMES_BYTES,
    GROUP_DEPTH,
    GROUP_NODES,
    MASKED_DEMOS,
    NUMBERS_BYTES,
    RATIO,
    TABLES_OF_TEXT_BYTES,
)
from whale.data.ingest.sources.arrays import (
    ArrayFrames,
    EncodedFrames,
    is_encoded_rows,
    is_frames,
    is_planes,
    planes,
)
from whale.data.ingest.sources.columns import content_sha256
from whale.data.ingest.sources.hdf5_probe import require_passable, serve
from whale.data.ingest.sources.source import ALL, ShardFile, measured
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected
from whale.data.storage.images import JPEG_MAGIC, PNG_MAGIC

MODULE = "whale.data.ingest.sources.hdf5"  # also where this is a program
SUFFIXES = (".hdf5", ".h5")
DEMO = re.compile(r"demo_(\d{1,7})")
MASK = re.compile(r"[A-Za-z0-9_]{1,64}")
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}  # of HDF5 itself, h5py
RENAMED = {"rewards": "reward"}
DAMAGE = (OSError, ValueError, KeyError, TypeError, RuntimeError)  # what h5py raises; an EpisodeError is a ValueError


class Hdf5Source:
    """One file is one unit; demos are counted through files in the order of their names, demo_2 before demo_10."""

    rate = columns = None

    def __init__(self, directory: Path, name: str, version: str):
        self.directory, self.name, self.version = Path(directory), name, version
        paths = sorted(path for path in self.directory.rglob("*") if path.suffix in SUFFIXES and path.is_file())
        if not paths:
            raise MissingInputError("no HDF5 file", file=directory, expected=" or ".join(f"*{s}" for s in SUFFIXES))
        files = [path.relative_to(self.directory).as_posix() for path in paths]
        refuse_pointers(self.directory, files)
        require_passable(paths, MODULE)
        self.demos: dict[str, dict[str, list[str]]] = {ALL: {}}  # split -> file -> demos in order
        self._masked: dict[str, str] = {}
        for file, path in zip(files, paths, strict=True):
            self.demos[ALL][file], masks = _demo_names(path)
            for mask, listed in masks.items():
                known = [demo for demo in self.demos[ALL][file] if demo in listed]
                self.demos.setdefault(mask, {})[file] = known
                if absent := sorted(listed - set(known)):
                    self._masked[f"mask/{mask} of {file}"] = f"{len(absent)} demos are not in data/, e.g. {absent[0]}"
        self.splits: dict[str, list[ShardFile]] = {split: _units(demos) for split, demos in self.demos.items()}

    @property
    def features(self) -> list[str]:
        return self._first[0]

    @property
    def left_out(self) -> dict[str, str]:
        return self._masked | self._first[1]

    @cached_property
    def _first(self) -> tuple[list[str], dict[str, str]]:
        """(names that a spec can read, why others cannot be) of the first demo; BadDataError if it cannot be read."""
        file, demos = next((each for each in self.demos[ALL].items() if each[1]), ("", []))
        if not demos:
            return [], {}
        try:
            with open_hdf5(self.directory / file) as opened:
                demo = _demo(opened["data"], demos[0])
                arrays, refused = _datasets(demo)
                num_steps = _num_steps(arrays, None)
                names = set[str]()
                for name, node in arrays.items():
                    if not node.shape or node.shape[0] != num_steps or node.dtype.kind not in "biufSOV":
                        refused[name] = f"{node.dtype} of shape {node.shape} in an episode of {num_steps} steps"
                    else:
                        names |= planes(name, node).keys() if is_planes(node.shape, node.dtype) else {name}
                text = _text_attributes(opened["data"], demo)
        except DAMAGE as error:
            raise BadDataError(
                "the first demo cannot be read", file=self.directory / file, place=f"data/{demos[0]}",
                found=f"{type(error).__name__}: {error}"[:200],
            ) from None  # fmt: skip
        return sorted({*names, *(RENAMED[name] for name in names & RENAMED.keys()), *text, "is_first"}), refused

    def read_shard(
        self, split: str, index: int, keys: Collection[str] | None = None, hashed: bool = True
    ) -> "Hdf5Reader":
        return Hdf5Reader(self, split, self.splits[split][index], keys, hashed)


class Hdf5Reader:
    """The demos of one file; frames are read from it while they are used."""

    def __init__(self, source: Hdf5Source, split: str, shard: ShardFile, keys: Collection[str] | None, hashed: bool):
        self.hashed = hashed
        self.path, self.shard, self.keys = source.directory / shard.file, shard, keys
        self.demos = source.demos[split][shard.file]
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
        arrays, refused = _datasets(demo)
        for key, why in refused.items():
            if self.keys is not None and _is_asked_for(key, self.keys):
                raise EpisodeError("unsafe", f"'{key}' {why}")
        num_steps = _num_steps(arrays, self.keys)
        claimed = demo.attrs.get("num_samples", num_steps)
        if int(claimed) != num_steps:
            raise EpisodeError("length_mismatch", f"num_samples says {claimed}, actions has {num_steps}")
        steps: dict[str, np.ndarray | Sequence[bytes]] = {}
        for key, node in arrays.items():
            if self.keys is None and (not node.shape or node.shape[0] != num_steps):
                continue  # of a look at everything; `left_out` says so
            if self.keys is None or _is_wanted(key, self.keys):
                steps |= _step_features(key, node, num_steps)
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
        for name in _demo_names(path)[0]:
            with suppress(Exception):  # the next demo is read all the same
                demo = _demo(data, name)
                _text_attributes(demo)
                demo.attrs.get("num_samples")
                for node in _datasets(demo)[0].values():
                    if node.shape and node.shape[0]:
                        node[0], node[-1]


def open_hdf5(path: Path) -> h5py.File:
    with reading(path, "not a readable HDF5 file"):
        return h5py.File(path, "r", locking=False)


def _units(demos: dict[str, list[str]]) -> list[ShardFile]:
    """One for each file, also for one of which the split takes nothing: a unit's place tells its file."""
    units, first = [], 0
    for file, names in demos.items():
        units.append(ShardFile(file, len(names), first, (file,)))
        first += len(names)
    return units


def _demo_names(path: Path) -> tuple[list[str], dict[str, set[str]]]:
    """(demos in order, name of a mask -> the demos it lists)."""
    with reading(path, "not a readable HDF5 file"), open_hdf5(path) as opened:
        if not _is_own_group(opened, "data"):
            raise BadDataError("no group data/", file=path, found=sorted(opened), expected="data/demo_<i>")
        data = opened["data"]
        numbered = sorted((int(match[1]), name) for name in data if (match := DEMO.fullmatch(name)))
        foreign = [name for _, name in numbered if not _is_own_group(data, name)]
        masks = _masks(opened["mask"]) if _is_own_group(opened, "mask") else {}
    if foreign:
        raise BadDataError(
            "a demo is a link or no group", file=path, place=f"data/{foreign[0]}", found=foreign[:5],
            expected="groups of this file", remedy="copy the demos into the file, or leave the file out",
        )  # fmt: skip
    return [name for _, name in numbered], masks


def _masks(group: h5py.Group) -> dict[str, set[str]]:
    """Lists of names; anything else there is no split."""
    found = {}
    for name in group:
        node = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(node, h5py.Dataset) or len(node.shape or ()) != 1 or node.size > MASKED_DEMOS:
            continue
        if name != ALL and MASK.fullmatch(name) and node.dtype.kind in "SO" and _why_unsafe(node) is None:
            found[name] = {text.decode("utf-8", "replace") for text in _texts(node, f"mask/{name}")}
    return found


def _is_own_group(parent: h5py.Group, name: str) -> bool:
    """The link is looked at before it is followed: what it leads to may be another file."""
    return isinstance(parent.get(name, getlink=True), h5py.HardLink) and isinstance(parent[name], h5py.Group)


def _demo(data: h5py.Group, name: str) -> h5py.Group:
    if not _is_own_group(data, name):
        raise EpisodeError("unsafe", f"'{name}' is a link to elsewhere or no group")
    return data[name]


def _datasets(demo: h5py.Group) -> tuple[dict[str, h5py.Dataset], dict[str, str]]:
    """(flattened name -> dataset, name -> why not): anything but hard links to plain arrays is refused."""
    refused: dict[str, str] = {}
    return dict(_walk(demo, "", 0, count(1), refused)), refused


def _walk(
    group: h5py.Group, prefix: str, depth: int, visits: Iterator[int], refused: dict[str, str]
) -> Iterator[tuple[str, h5py.Dataset]]:
    """`visits` counts over all groups: hard links may show one group many times."""
    if depth > GROUP_DEPTH:
        raise EpisodeError("unsafe", "groups nested too deep")
    for name in sorted(group):
        if next(visits) > GROUP_NODES:
            raise EpisodeError("unsafe", f"more than {GROUP_NODES} groups and arrays")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            refused[f"{prefix}{name}"] = "is a link to elsewhere"
            continue
        node = group[name]
        if isinstance(node, h5py.Group):
            yield from _walk(node, f"{prefix}{name}/", depth + 1, visits, refused)
        elif isinstance(node, h5py.Dataset):
            why = _why_unsafe(node)
            if why is None:
                yield f"{prefix}{name}", node
            else:
                refused[f"{prefix}{name}"] = why


def _why_unsafe(node: h5py.Dataset) -> str | None:
    if node.is_virtual or node.external is not None:
        return "is stored in another file"
    if (foreign := _foreign_filter(node)) is not None:
        return f"needs the filter {foreign}; `h5repack -f GZIP=4 IN OUT` writes it without"
    item = max(node.dtype.itemsize, 1)
    if node.size is None or node.size * item > FRAMES_BYTES:
        return f"has shape {node.shape}, more than {FRAMES_BYTES} bytes"
    if node.chunks and math.prod(node.chunks) * item > CHUNK_BYTES:
        return f"has chunks of {node.chunks}, more than {CHUNK_BYTES} bytes"
    stored = node.id.get_storage_size()
    if node.size * node.dtype.itemsize > RATIO * max(stored, 1):
        return f"has shape {node.shape}, made of {stored} bytes"
    return None


def _foreign_filter(node: h5py.Dataset) -> str | None:
    """A plugin that HDF5 does not bring along (bitshuffle, blosc): its chunks cannot be read here."""
    plist = node.id.get_create_plist()
    for number in range(plist.get_nfilters()):
        code, _, _, name = plist.get_filter(number)
        if code not in FILTERS:
            return f"{code} ({bytes(name).decode('utf-8', 'replace')[:60]})"
    return None


def _num_steps(arrays: dict[str, h5py.Dataset], keys: Collection[str] | None) -> int:
    """The length of `actions`; without it, of what is read."""
    if "actions" in arrays:
        return len(arrays["actions"])
    read = [node for key, node in arrays.items() if node.shape and (keys is None or _is_wanted(key, keys))]
    if not read:
        raise EpisodeError("missing_key", "no 'actions', and nothing else that is read has steps")
    return int(read[0].shape[0])


def _is_asked_for(key: str, keys: Collection[str]) -> bool:
    """The array or the group, which may hold what is read."""
    return RENAMED.get(key) in keys or any(each == key or each.startswith((f"{key}/", f"{key}[")) for each in keys)


def _is_wanted(key: str, keys: Collection[str]) -> bool:
    return key == "actions" or _is_asked_for(key, keys)


def _step_features(key: str, node: h5py.Dataset, num_steps: int) -> dict[str, np.ndarray | Sequence[bytes]]:
    """Under the array's name, or of its planes."""
    if not node.shape or node.shape[0] != num_steps:
        raise EpisodeError("length_mismatch", f"'{key}' has shape {node.shape}, actions has {num_steps} steps")
    if is_planes(node.shape, node.dtype) and not is_frames(node.shape, node.dtype):
        return {**planes(key, node)}
    return {key: _step_feature(key, node)}


def _step_feature(key: str, node: h5py.Dataset) -> np.ndarray | Sequence[bytes]:
    if is_frames(node.shape, node.dtype):
        return ArrayFrames(node)
    if _is_encoded(node):
        return EncodedFrames(node)
    if node.size * node.dtype.itemsize > NUMBERS_BYTES:
        raise EpisodeError("unsafe", f"'{key}' has shape {node.shape}, more than {NUMBERS_BYTES} bytes")
    if node.dtype.kind in "biuf":
        return np.asarray(node[()])
    if node.dtype.kind == "S" or h5py.check_string_dtype(node.dtype) is not None:
        return _texts(node, key)
    raise EpisodeError("dtype_mismatch", f"'{key}' is of type {node.dtype}")


def _is_encoded(node: h5py.Dataset) -> bool:
    """JPEG or PNG files, by the first one: byte strings, arrays of bytes of any length, rows padded with zeros."""
    if not node.size or node.dtype.itemsize > CHUNK_BYTES:
        return False
    if len(node.shape) == 1 and (node.dtype.kind in "SV" or h5py.check_vlen_dtype(node.dtype) == np.uint8
                                 or h5py.check_string_dtype(node.dtype) is not None):  # fmt: skip
        first = node[0]
        data = first if isinstance(first, bytes) else np.asarray(first).tobytes()
        return data.startswith((JPEG_MAGIC, PNG_MAGIC))
    return is_encoded_rows(node.shape, node.dtype, lambda: node[0])


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
        about = parse_object(texts.get("problem_info", b"{}"), nodes[0].file.filename, "problem_info")
    except BadDataError:
        return texts
    instruction = about.get("language_instruction")
    return texts | ({"language_instruction": str(instruction).encode()} if instruction else {})


if __name__ == "__main__":
    serve(look_over)
