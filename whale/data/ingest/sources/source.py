"""What every source format offers ingest: splits made of units, a unit read as raw episodes, features by name.

A unit is what one worker reads and what one set of shards is made from: a TFRecord file, or a group of small files.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from whale.common.errors import MissingInputError
from whale.common.files import sha256_of_file
from whale.common.impostors import refuse_pointers
from whale.common.json_files import canonical_json
from whale.data.spec.episode import RawEpisode, Rejected

GROUP = 64  # episodes of formats with one file per episode that make one unit
VIDEO = ".mp4"  # judged by its reader, camera by camera: a spec may not read them all
ALL = "all"  # the one split of formats that have none of their own


@dataclass(frozen=True)
class ShardFile:
    """One unit: its name, the records it promises, its first record's place in the split, the files it reads."""

    file: str
    records: int
    first_ordinal: int
    files: tuple[str, ...] = ()


class UnitReader(Protocol):
    """Iterates over exactly the promised records; `files` (path -> bytes, sha256) is complete at the end."""

    files: dict[str, tuple[int, str]]

    def __iter__(self) -> Iterator[RawEpisode | Rejected]: ...


class Source(Protocol):
    """One dataset version in a folder. `features`: names of everything a spec can read.

    left_out: what lies there and no spec can read, and why; it blocks nobody who does not ask for it, and is told.
    rate: frames per second, if the files say so. columns: what they call the columns of a feature, nested as it stands.
    """

    directory: Path
    name: str
    version: str
    splits: dict[str, list[ShardFile]]

    @property
    def rate(self) -> float | None: ...

    @property
    def columns(self) -> Mapping[str, object] | None: ...

    @property
    def left_out(self) -> Mapping[str, str]: ...

    @property
    def features(self) -> Collection[str]: ...

    def read_shard(
        self, split: str, index: int, keys: Collection[str] | None = None, hashed: bool = True
    ) -> UnitReader:
        """`keys`: decode these step features only. Not `hashed`: for a look, no file is read whole for its digest."""
        ...


def require_files(source: Source, units: Iterable[ShardFile]) -> None:
    """The files of these units, and of no others, must be there and be no pointers: all that are not are named."""
    files = list(dict.fromkeys(file for unit in units if unit.records for file in unit.files))
    missing = [file for file in files if not (source.directory / file).is_file()]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise MissingInputError(
            "source files are missing", file=source.directory, found=", ".join(missing[:5]) + more,
            expected=f"{len(files)} files", remedy="download them again, or take their split out of source.splits",
        )  # fmt: skip
    refuse_pointers(source.directory, (file for file in files if not file.endswith(VIDEO)))


def grouped(episodes: Sequence[tuple[str, ...]], label: str) -> list[ShardFile]:
    """Units of GROUP episodes in a row; `episodes[i]` lists the files of episode i."""
    units = []
    for start in range(0, len(episodes), GROUP):
        part = episodes[start : start + GROUP]
        files = tuple(dict.fromkeys(file for files in part for file in files))
        units.append(ShardFile(f"{label}-{start:06d}", len(part), start, files))
    return units


def digest_of(files: Mapping[str, tuple[int, str]]) -> tuple[int, str]:
    """(bytes, sha256) of a unit: those of its file, or of the list of its files' digests."""
    if len(files) == 1:
        return next(iter(files.values()))
    listed = canonical_json({file: sha256 for file, (_, sha256) in files.items()})
    return sum(size for size, _ in files.values()), hashlib.sha256(listed.encode()).hexdigest()


def measured(path: Path, hashed: bool = True) -> tuple[int, str]:
    """(bytes, sha256) of one file; no sha256 unless `hashed`."""
    return path.stat().st_size, sha256_of_file(path) if hashed else ""
