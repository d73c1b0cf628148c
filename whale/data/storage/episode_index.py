"""episodes.parquet in memory: columns, not objects; an EpisodeRow is made when somebody asks for it.

27 datasets hold 57 M frames: as Python numbers their positions would take gigabytes in every process. Here a frame
costs 8 bytes (size and CRC-32C; offsets follow from the sizes) and an episode some hundred.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whale.common.boundary import reading
from whale.common.errors import BadDataError
from whale.common.json_files import parse_json
from whale.data.storage.manifest import frame_name, frame_offsets
from whale.data.storage.tar import Member


@dataclass(frozen=True)
class EpisodeRow:
    """One kept episode and where its bytes lie in its shard.

    frames[role]: (T, 3) int64 of payload offset, size, CRC-32C.
    """

    key: str
    split: str
    num_steps: int
    valid_steps: int
    language: str
    metadata: Mapping[str, Any]
    shard: str
    content_sha256: str
    arrays: Mapping[str, Member]
    frames: Mapping[str, np.ndarray]

    def frame_members(self, role: str, start: int, stop: int) -> list[Member]:
        if role not in self.frames:
            raise BadDataError(
                "no such camera", file=self.shard, place=self.key, found=role, expected=list(self.frames)
            )
        if not 0 <= start <= stop <= self.num_steps:
            raise BadDataError("frames out of range", place=self.key, found=[start, stop], expected=[0, self.num_steps])
        where_T3 = self.frames[role][start:stop].tolist()
        return [Member(frame_name(self.key, role, start + i), *where) for i, where in enumerate(where_T3)]

    def members(self) -> list[Member]:
        """Every indexed member, in the order of the tar."""
        frames = [self.frame_members(role, 0, self.num_steps) for role in self.frames]
        return sorted([*self.arrays.values(), *(one for each in frames for one in each)], key=lambda m: m.offset)


class EpisodeIndex(Sequence[EpisodeRow]):
    """The kept episodes of one split, sorted by key; rows are made on demand."""

    def __init__(self, table: pa.Table, split: str, roles: Sequence[str]):
        chosen = table.filter(pc.and_(table["kept"], pc.equal(table["split"], split)))
        self._table = chosen.sort_by("key").combine_chunks()
        self._columns = {name: self._table[name].combine_chunks() for name in self._table.column_names}
        self._roles = roles

    def __len__(self) -> int:
        return self._table.num_rows

    @overload
    def __getitem__(self, number: int) -> EpisodeRow: ...

    @overload
    def __getitem__(self, number: slice) -> list[EpisodeRow]: ...

    def __getitem__(self, number: int | slice) -> EpisodeRow | list[EpisodeRow]:
        if isinstance(number, slice):
            return [self._row(n) for n in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        return self._row(number % len(self))

    @cached_property
    def num_steps(self) -> np.ndarray:
        """int64 (E,), without making a row."""
        return self._table["steps_out"].to_numpy()

    @property
    def nbytes(self) -> int:
        """What the columns take in memory."""
        return self._table.nbytes

    def keys(self) -> list[str]:
        return self._table["key"].to_pylist()

    def shards(self) -> list[str]:
        """Names of the shards that hold these episodes, sorted."""
        return sorted(pc.unique(self._table["shard"]).to_pylist())

    def in_shard(self, shard: str) -> list[EpisodeRow]:
        """The episodes of one shard."""
        return [
            self._row(int(n))
            for n in np.flatnonzero(pc.equal(self._columns["shard"], shard).to_numpy(zero_copy_only=False))
        ]

    def _row(self, number: int) -> EpisodeRow:
        with reading("episodes.parquet", "a row that does not hold", place=f"episode {number}"):
            return self._made(number)

    def _made(self, number: int) -> EpisodeRow:
        def cell(name: str) -> Any:
            return self._columns[name][number]

        text = {name: cell(name).as_py() for name in ("key", "split", "language", "shard", "content_sha256")}
        columns = [cell(f"array_{what}").as_py() for what in ("names", "offsets", "sizes", "crc32c")]
        arrays = {name: Member(f"{text['key']}.{name}", *where) for name, *where in zip(*columns, strict=True)}
        frames = {role: where for role in self._roles if (where := _frames(cell, role)) is not None}
        return EpisodeRow(
            **text, num_steps=cell("steps_out").as_py(), valid_steps=cell("valid_steps").as_py(),
            metadata=parse_json(cell("metadata").as_py(), "episodes.parquet"), arrays=arrays, frames=frames,
        )  # fmt: skip


def _frames(cell: Any, role: str) -> np.ndarray | None:
    offset = cell(f"{role}_frame_offset").as_py()
    if offset is None:
        return None
    sizes, checksums = (cell(f"{role}_frame_{what}").values.to_numpy().astype(np.int64) for what in ("sizes", "crc32c"))
    return np.stack([frame_offsets(offset, sizes), sizes, checksums], axis=1)
