"""Reading ingested episodes: only what manifest.json lists, every byte checked, a window of frames by ONE read.

Layout of a folder: <split>/<name>-<split>-<sourcefile:05d>-<part:03d>.tar, manifest.json, episodes.parquet,
statistics.json, contract.json, quarantine.parquet. One tar sample is one episode:
<key>.action.npy, .action_valid.npy, .discount.npy, .episode.json, .is_first.npy, .is_last.npy, .is_terminal.npy,
.primary.000000.jpg ..., .reward.npy, .state.npy; stock WebDataset reads it as well.
Shapes: T steps, H W image.
"""

import hashlib
import io
from collections.abc import Collection
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa

from whale.common.boundary import reading
from whale.common.errors import BadDataError, ConfigError, MissingInputError, RefusedError
from whale.common.files import sha256_of_file
from whale.common.json_files import parse_json, parse_object
from whale.common.limits import JSON_BYTES
from whale.data.storage.episode_index import EpisodeIndex, EpisodeRow
from whale.data.storage.files import inside
from whale.data.storage.images import decode_all, decode_into
from whale.data.storage.manifest import FORMAT_VERSION, FileEntry, Manifest, episode_schema, read_table
from whale.data.storage.npy import read_npy
from whale.data.storage.tar import ShardInfo, TarWriter, read_members

__all__ = ["EpisodeRow", "ShardInfo", "ShardSet", "TarWriter", "array_bytes", "parse_array"]

STEP_ARRAYS = ("action", "action_valid", "discount", "is_first", "is_last", "is_terminal", "reward", "state")


class ShardSet:
    """One ingested dataset. A defect raises BadDataError with file, place, found and expected; nothing is skipped."""

    def __init__(self, directory: Path, manifest: Manifest, digest: str):
        self.directory, self.digest, self.law = directory, digest, manifest
        self.name = manifest.name
        self.manifest: dict[str, Any] = manifest.model_dump(mode="json")
        self.splits = sorted(manifest.kept)
        self._index: dict[str, EpisodeIndex] = {}

    @classmethod
    def open(cls, directory: Path, verify: Literal["size", "always"] = "size") -> Self:
        """Check the manifest against the folder: sizes of all shards, or (verify="always") their sha256 as well."""
        directory = Path(directory)
        path = directory / "manifest.json"
        if not path.is_file():
            raise MissingInputError("no manifest.json", file=directory, remedy="run ingest, or `dvc pull`")
        data = _read_small(path)
        shards = cls(directory, _parse_manifest(path, data), hashlib.sha256(data).hexdigest())
        shards._verify(hash_shards=verify == "always")
        return shards

    def episodes(self, split: str) -> EpisodeIndex:
        """Kept episodes of a split, sorted by key."""
        if split not in self.splits:
            raise BadDataError("no such split", file=self.directory, found=split, expected=self.splits)
        if split not in self._index:
            with reading(self.directory / "episodes.parquet", "an index of episodes that does not hold"):
                index = EpisodeIndex(self._table, split, self.law.images.roles)
                self._check(split, index)
            self._index[split] = index
        return self._index[split]

    def read_arrays(self, row: EpisodeRow, names: Collection[str] = STEP_ARRAYS) -> dict[str, np.ndarray]:
        """action (T, 7) float32, action_valid (T,) bool, state (T, 7) if recorded, reward, discount, is_* (T,)."""
        wanted = [name for name in row.arrays if name.removesuffix(".npy") in names]
        arrays = {}
        for name in wanted:
            (payload,) = read_members(self.directory / row.shard, [row.arrays[name]])
            arrays[name.removesuffix(".npy")] = parse_array(payload, self.directory / row.shard, row.arrays[name].name)
        if any(array.shape[:1] != (row.num_steps,) for array in arrays.values()):
            found = {name: array.shape for name, array in arrays.items()}
            raise BadDataError(
                "array lengths differ", file=row.shard, place=row.key, found=found, expected=row.num_steps
            )
        return arrays

    def read_encoded(self, row: EpisodeRow, start: int, stop: int, role: str = "primary") -> list[bytes]:
        """Frames start to stop - 1 as the JPEG bytes in the shard."""
        return read_members(self.directory / row.shard, row.frame_members(role, start, stop))

    def read_frames(self, row: EpisodeRow, start: int, stop: int, role: str = "primary") -> np.ndarray:
        """uint8 RGB (stop - start, H, W, 3)."""
        return decode_all(self.read_encoded(row, start, stop, role))

    def read_frames_into(self, row: EpisodeRow, start: int, out_THWC: np.ndarray, role: str = "primary") -> None:
        """Fill uint8 (T, H, W, 3) with the frames from `start` on."""
        decode_into(self.read_encoded(row, start, start + len(out_THWC), role), out_THWC)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        return parse_object(_read_small(self.directory / "statistics.json"), self.directory / "statistics.json")

    @cached_property
    def contract(self) -> dict[str, Any]:
        return parse_object(_read_small(self.directory / "contract.json"), self.directory / "contract.json")

    @cached_property
    def _table(self) -> pa.Table:
        return read_table(self.directory / "episodes.parquet", episode_schema(self.law.images.roles))

    def _check(self, split: str, index: EpisodeIndex) -> None:
        unlisted = sorted(set(index.shards()) - {entry.file for entry in self.law.shards})
        if unlisted:
            raise BadDataError("an episode lies in an unlisted shard", file=self.directory, found=unlisted[0])
        keys, count = index.keys(), self.law.kept[split]
        found = (len(keys), int(index.num_steps.sum()))
        if found != (count.episodes, count.steps) or len(set(keys)) != len(keys):
            raise BadDataError(
                "episodes.parquet and manifest.json disagree", file=self.directory, place=split, found=found,
                expected=(count.episodes, count.steps),
            )  # fmt: skip

    def _verify(self, hash_shards: bool) -> None:
        files = [entry.file for entry in self.law.shards]
        if len(set(files)) != len(files):
            raise BadDataError("a shard is listed twice", file=self.directory / "manifest.json")
        for entry in self.law.shards:
            _check_file(inside(self.directory, entry.file), entry, hash_shards)
        for name, file in self.law.files.items():
            _check_file(inside(self.directory, name), file, hash_file=True)


def array_bytes(array: np.ndarray) -> bytes:
    """npy 1.0, C order, little-endian, never pickled."""
    dtype = array.dtype.newbyteorder("<")
    assert not dtype.hasobject and dtype.names is None, dtype
    return _npy_header(dtype.str, array.shape) + array.astype(dtype, copy=False).tobytes()


@lru_cache(maxsize=256)  # numpy takes longer for the header than for the numbers of an episode
def _npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def parse_array(payload: bytes, file: Path, place: str) -> np.ndarray:
    return read_npy(io.BytesIO(payload), len(payload), file, place)


def _read_small(path: Path) -> bytes:
    if path.stat().st_size > JSON_BYTES:
        raise BadDataError("file too large", file=path, found=path.stat().st_size, expected=f"<= {JSON_BYTES}")
    return path.read_bytes()


def _parse_manifest(path: Path, data: bytes) -> Manifest:
    values = parse_json(data, path)
    try:
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION and isinstance(version, int):
            raise RefusedError(
                "shards of another format version", file=path, found=version, expected=FORMAT_VERSION,
                remedy=f"`dvc repro ingest@{values.get('name')}` writes them anew from the raw data",
            )  # fmt: skip
        return Manifest.parse(values, file=path)
    except ConfigError as error:
        raise BadDataError("not a valid manifest", file=path, found=str(error)[:2000]) from None


def _check_file(path: Path, entry: FileEntry, hash_file: bool) -> None:
    if path.is_symlink() or not path.is_file():
        raise BadDataError("a listed file is missing", file=path, remedy="`dvc checkout`, or re-run ingest")
    if path.stat().st_size != entry.bytes:
        raise BadDataError("a file changed size", file=path, found=path.stat().st_size, expected=entry.bytes)
    if hash_file and (found := sha256_of_file(path)) != entry.sha256:
        raise BadDataError("a file's bytes changed", file=path, found=found, expected=entry.sha256)
