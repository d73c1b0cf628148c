"""Reading ingested episodes: only what manifest.json lists, every byte checked, a window of frames by ONE read.

Layout of a folder: <split>/<name>-<split>-<sourcefile:05d>-<part:03d>.tar, manifest.json, episodes.parquet,
statistics.json, contract.json, quarantine.parquet. One tar sample is one episode:
<key>.action.npy, .action_valid.npy, .discount.npy, .episode.json, .is_first.npy, .is_last.npy, .is_terminal.npy,
.primary.000000.jpg ..., .reward.npy, .state.npy; stock WebDataset reads it as well.
Shapes: T steps, H W image.
"""

import hashlib
import io
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from whale.data.storage.files import inside, sha256_of
from whale.data.storage.images import decode_all
from whale.data.storage.manifest import EpisodeRow, FileEntry, Manifest, episode_schema, file_entry, read_table
from whale.data.storage.tar import Member, ShardInfo, TarWriter, read_members, write_sample
from whale.errors import BadDataError, ConfigError, MissingInputError

__all__ = ["EpisodeRow", "ShardInfo", "ShardSet", "TarWriter", "array_bytes", "parse_array", "write_sample"]

MAX_JSON_BYTES = 64 * 2**20
STEP_ARRAYS = ("action", "action_valid", "discount", "is_first", "is_last", "is_terminal", "reward", "state")


class ShardSet:
    """One ingested dataset. A defect raises BadDataError with file, place, found and expected; nothing is skipped."""

    def __init__(self, directory: Path, manifest: Manifest, digest: str):
        self.directory, self.digest, self._manifest = directory, digest, manifest
        self.name = manifest.name
        self.manifest: dict[str, Any] = manifest.model_dump(mode="json")
        self.splits = sorted(manifest.kept)
        self._rows: dict[str, list[EpisodeRow]] = {}

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

    def episodes(self, split: str) -> list[EpisodeRow]:
        """Kept episodes of a split, sorted by key."""
        if split not in self.splits:
            raise BadDataError("no such split", file=self.directory, found=split, expected=self.splits)
        if split not in self._rows:
            rows = (row for row in self._table if row["kept"] and row["split"] == split)
            self._rows[split] = sorted((self._row(row) for row in rows), key=lambda row: row.key)
            self._check_counts(split)
        return self._rows[split]

    def read_arrays(self, row: EpisodeRow) -> dict[str, np.ndarray]:
        """action (T, 7) float32, action_valid (T,) bool, state (T, 7) if recorded, reward, discount, is_* (T,)."""
        wanted = [name for name in row.arrays if name.removesuffix(".npy") in STEP_ARRAYS]
        arrays = {}
        for name in wanted:
            (payload,) = read_members(self.directory / row.shard, [row.arrays[name]])
            arrays[name.removesuffix(".npy")] = parse_array(payload, self.directory / row.shard, row.arrays[name].name)
        if any(len(array) != row.num_steps for array in arrays.values()):
            found = {name: len(array) for name, array in arrays.items()}
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

    @cached_property
    def statistics(self) -> dict[str, Any]:
        return json.loads(_read_small(self.directory / "statistics.json"))

    @cached_property
    def contract(self) -> dict[str, Any]:
        return json.loads(_read_small(self.directory / "contract.json"))

    @cached_property
    def _table(self) -> list[dict[str, Any]]:
        roles = self._manifest.images.roles
        return read_table(self.directory / "episodes.parquet", episode_schema(roles)).to_pylist()

    def _row(self, row: dict[str, Any]) -> EpisodeRow:
        listed = {entry.file for entry in self._manifest.shards}
        if row["shard"] not in listed:
            raise BadDataError("an episode lies in an unlisted shard", file=self.directory, found=row["shard"])
        columns = (row["array_names"], row["array_offsets"], row["array_sizes"], row["array_crc32c"])
        arrays = {name: Member(f"{row['key']}.{name}", *where) for name, *where in zip(*columns, strict=True)}
        return EpisodeRow(
            key=row["key"], split=row["split"], num_steps=row["steps_out"], valid_steps=row["valid_steps"],
            language=row["language"], metadata=json.loads(row["metadata"]), shard=row["shard"],
            content_sha256=row["content_sha256"], arrays=arrays,
            frames={role: frames for role in self._manifest.images.roles if (frames := _frames(row, role)) is not None},
        )  # fmt: skip

    def _check_counts(self, split: str) -> None:
        rows, count = self._rows[split], self._manifest.kept[split]
        found = (len(rows), sum(row.num_steps for row in rows))
        if found != (count.episodes, count.steps) or len({row.key for row in rows}) != len(rows):
            raise BadDataError(
                "episodes.parquet and manifest.json disagree", file=self.directory, place=split, found=found,
                expected=(count.episodes, count.steps),
            )  # fmt: skip

    def _verify(self, hash_shards: bool) -> None:
        files = [entry.file for entry in self._manifest.shards]
        if len(set(files)) != len(files):
            raise BadDataError("a shard is listed twice", file=self.directory / "manifest.json")
        for entry in self._manifest.shards:
            _check_file(inside(self.directory, entry.file), entry, hash_shards)
        for name, file in self._manifest.files.items():
            _check_file(inside(self.directory, name), file, hash_file=True)


def array_bytes(array: np.ndarray) -> bytes:
    """npy 1.0, C order, little-endian, never pickled."""
    buffer = io.BytesIO()
    contiguous = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    np.lib.format.write_array(buffer, contiguous, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def parse_array(payload: bytes, file: Path, place: str) -> np.ndarray:
    try:
        return np.load(io.BytesIO(payload), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadDataError("not a plain npy array", file=file, place=place, found=str(error)[:200]) from None


def _frames(row: dict[str, Any], role: str) -> np.ndarray | None:
    columns = [row[f"{role}_frame_{what}"] for what in ("offsets", "sizes", "crc32c")]
    return None if columns[0] is None else np.array(columns, np.int64).T.reshape(-1, 3)


def _read_small(path: Path) -> bytes:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BadDataError("file too large", file=path, found=path.stat().st_size, expected=f"<= {MAX_JSON_BYTES}")
    return path.read_bytes()


def _parse_manifest(path: Path, data: bytes) -> Manifest:
    try:
        return Manifest.parse(json.loads(data), file=path)
    except (ValueError, ConfigError) as error:
        raise BadDataError("not a valid manifest", file=path, found=str(error)[:2000]) from None


def _check_file(path: Path, entry: FileEntry, hash_file: bool) -> None:
    if path.is_symlink() or not path.is_file():
        raise BadDataError("a listed file is missing", file=path, remedy="`dvc checkout`, or re-run ingest")
    if path.stat().st_size != entry.bytes:
        raise BadDataError("a file changed size", file=path, found=path.stat().st_size, expected=entry.bytes)
    if hash_file and sha256_of(path) != entry.sha256:
        raise BadDataError("a file's bytes changed", file=path, found=file_entry(path).sha256, expected=entry.sha256)
