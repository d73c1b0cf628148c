"""What a folder of shards says of itself: manifest.json (the law) and episodes.parquet (one row per SOURCE episode).

manifest.json is written last and lists every other file with size and sha256; a reader opens only what it lists.
Shards of another format version are refused by name: re-ingest is the migration.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from whale.common.boundary import reading
from whale.common.config import Config
from whale.common.errors import BadDataError
from whale.common.files import atomic_file, sha256_of_file
from whale.data.storage.tar import BLOCK, Member

FORMAT_VERSION = 2  # 1 kept an int64 offset, size and checksum for every frame: 24 bytes a frame, now 8
SHA256 = r"^[0-9a-f]{64}$"
TAR_PATH = r"^[a-z0-9_]+/[a-z0-9_]+-[a-z0-9_]+-[0-9]{5}-[0-9]{3}\.tar$"


class FileEntry(Config):
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=SHA256)


class SourceEntry(FileEntry):
    """One source file: its name in the dataset folder, its digest, and how many records it should hold."""

    file: str
    records: int = Field(ge=0)


class ShardEntry(FileEntry):
    file: str = Field(pattern=TAR_PATH)
    split: str
    episodes: int = Field(ge=1)
    steps: int = Field(ge=1)
    first_key: str
    last_key: str


class Count(Config):
    """`valid_steps`: steps whose action may be learned from."""

    episodes: int = Field(ge=0)
    steps: int = Field(ge=0)
    valid_steps: int = Field(ge=0, default=0)


class ImageFormat(Config):
    resolution: int = Field(gt=0)
    mode: Literal["stretch"] = "stretch"
    jpeg_quality: int
    encoder: str
    roles: list[str]


class Manifest(Config):
    format_version: Literal[2]
    name: str
    spec_digest: str = Field(pattern=SHA256)
    control_hz: float
    images: ImageFormat
    sources: list[SourceEntry]
    shards: list[ShardEntry]
    files: dict[str, FileEntry]
    read: Count
    kept: dict[str, Count]
    dropped: dict[str, Count]


def frame_name(key: str, role: str, step: int) -> str:
    return f"{key}.{role}.{step:06d}.jpg"


def episode_schema(roles: Sequence[str]) -> pa.Schema:
    """Columns of episodes.parquet; rows of dropped episodes have null from `shard` on.

    Frames of one role lie one behind the other: the first one's offset and all sizes say where each is.
    """
    integers, sizes, checksums, text = pa.list_(pa.int64()), pa.list_(pa.int32()), pa.list_(pa.uint32()), pa.string()
    columns = [("key", text), ("split", text), ("source_file", text), ("record_index", pa.int64())]
    columns += [("byte_offset", pa.int64()), ("payload_sha256", text), ("kept", pa.bool_()), ("reason", text)]
    columns += [("steps_in", pa.int64()), ("steps_out", pa.int64()), ("valid_steps", pa.int64()), ("shard", text)]
    columns += [("member_offset", pa.int64()), ("array_names", pa.list_(text)), ("array_offsets", integers)]
    columns += [("array_sizes", sizes), ("array_crc32c", checksums)]
    for role in roles:
        columns += [(f"{role}_frame_offset", pa.int64()), (f"{role}_frame_sizes", sizes)]
        columns += [(f"{role}_frame_crc32c", checksums)]
    columns += [("content_sha256", text), ("language", text), ("action_abs_max", pa.list_(pa.float64()))]
    return pa.schema([*columns, ("metadata", text)])


def fragment_schema(roles: Sequence[str]) -> pa.Schema:
    """Index rows of one source file while a dataset is ingested: those of episodes.parquet, and why one was dropped."""
    return episode_schema(roles).append(pa.field("detail", pa.string()))


def quarantine_schema() -> pa.Schema:
    text = pa.string()
    return pa.schema(
        [("key", text), ("source_file", text), ("record_index", pa.int64()), ("byte_offset", pa.int64()),
         ("payload_sha256", text), ("reason", text), ("detail", text), ("steps", pa.int64())]
    )  # fmt: skip


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Parquet with zstd; a missing column of a row is null."""
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    with atomic_file(path) as stream:
        pq.write_table(table, stream, compression="zstd", write_statistics=False)


@contextmanager
def table_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Like `write_table` for tables that come piece by piece; the file appears on a clean exit."""
    with (
        atomic_file(path) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd", write_statistics=False) as writer,
    ):
        yield writer


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """A table of exactly these columns and plain types; anything else (extension types too) is refused."""
    with reading(path, "not a readable parquet file"), pq.ParquetFile(path) as file:  # pq.read_table: pandas, 0.3 s
        found = file.schema_arrow
        if not found.equals(schema):
            raise BadDataError("unexpected columns", file=path, found=found.names, expected=schema.names)
        return file.read()


def file_entry(path: Path) -> FileEntry:
    return FileEntry(bytes=path.stat().st_size, sha256=sha256_of_file(path))


def index_columns(arrays: Sequence[Member], frames: Mapping[str, Sequence[Member]]) -> dict[str, Any]:
    """The members of one sample as columns of episodes.parquet."""
    columns: dict[str, Any] = {
        "array_names": [member.name.split(".", 1)[1] for member in arrays],
        "array_offsets": [member.offset for member in arrays],
        "array_sizes": [member.size for member in arrays],
        "array_crc32c": [member.crc32c for member in arrays],
    }
    for role, members in frames.items():
        sizes = np.array([member.size for member in members], np.int32)
        assert [member.offset for member in members] == frame_offsets(members[0].offset, sizes).tolist(), role
        columns[f"{role}_frame_offset"] = members[0].offset
        columns[f"{role}_frame_sizes"] = sizes
        columns[f"{role}_frame_crc32c"] = np.array([member.crc32c for member in members], np.uint32)
    return columns


def frame_offsets(first: int, sizes: np.ndarray) -> np.ndarray:
    """int64 payload offsets of members that follow each other: a header and a padded payload each."""
    padded = -(-sizes.astype(np.int64) // BLOCK) * BLOCK + BLOCK
    return first + np.concatenate([[0], np.cumsum(padded[:-1])]).astype(np.int64)
