"""Token shards and z shards: one sample per episode, one tar per frame shard, on the grid of segments (grid.py).

A token sample holds every segment of its episode: `tokens.npy` uint16 [S,T+1,N], `starts.npy` int32 [S],
`num_frames.npy` int32 [S], `action.npy` float32 [S,T,A] in raw units, `action_valid.npy` bool [S,T]. A z sample holds
`z.npy` float16 [S,T,K,M] (log-probabilities) and `starts.npy`. runtime/maps/segment_maps.py makes them. A manifest
carries the grid and the digest of the tensors that made the values; what was cut differently, or from other episodes,
is refused.

Shapes: S segments of an episode, T window, N tokens per frame, A = 7, K x M categories x classes of z.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from whale.common.errors import BadDataError, MismatchError, MissingInputError, RefusedError
from whale.common.files import sha256_of_file
from whale.common.json_files import read_json
from whale.data.segments.grid import SegmentConfig, grid_digest, segment_starts
from whale.data.storage.files import inside, write_listing
from whale.data.storage.manifest import read_table, write_table
from whale.data.storage.shards import parse_array
from whale.data.storage.tar import Member, read_members

FORMAT = 1
CACHE_BYTES = 2 * 2**30
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("num_steps", pa.int64()),
        ("num_segments", pa.int64()),
        ("shard", pa.string()),
        ("names", pa.list_(pa.string())),
        ("offsets", pa.list_(pa.int64())),
        ("sizes", pa.list_(pa.int64())),
        ("crc32c", pa.list_(pa.int64())),
    ]
)


def write_manifest(
    out_dir: Path, kind: str, name: str, grid: dict[str, int | str], made_by: str, fragments: Sequence[dict]
) -> dict[str, int]:
    """Index and manifest of finished shards; returns the totals.

    `made_by`: digest of the tensors that made the values (encoder of tokens, prior of z).
    """
    ordered = sorted(fragments, key=lambda fragment: fragment["file"])
    rows = sorted((row for fragment in ordered for row in fragment["rows"]), key=lambda row: row["key"])
    write_table(out_dir / "episodes.parquet", rows, INDEX_SCHEMA)
    totals = {
        "episodes": len(rows),
        "segments": sum(row["num_segments"] for row in rows),
        "too_short": sum(fragment["too_short"] for fragment in ordered),
    }
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "name": name,
        "grid": grid,
        "grid_digest": grid_digest(grid),
        _maker(kind): made_by,
        "index_sha256": sha256_of_file(out_dir / "episodes.parquet"),
        "shards": [{key: value for key, value in fragment.items() if key != "rows"} for fragment in ordered],
        "totals": totals,
    }
    write_listing(out_dir / "manifest.json", manifest)
    return totals


@dataclass(frozen=True)
class SampleRow:
    """Index entry of one episode's sample."""

    key: str
    split: str
    num_steps: int
    num_segments: int
    shard: str
    members: tuple[Member, ...]


class SampleSet:
    """Strict reader of one dataset's token or z shards: only what the manifest and the index list.

    Episodes read once stay in memory up to `cache_bytes`, the least recently used ones leave first.
    """

    kind: ClassVar[str]

    def __init__(self, directory: Path, manifest: dict[str, Any], rows: list[SampleRow], cache_bytes: int):
        self.directory, self.manifest, self._rows = directory, manifest, rows
        self.name: str = manifest["name"]
        self.grid: dict[str, int | str] = manifest["grid"]
        self.made_by: str = manifest[_maker(self.kind)]
        self.segments = SegmentConfig(window=int(self.grid["window"]), phases=int(self.grid["phases"]))
        self.splits = sorted({row.split for row in rows})
        self._cache: OrderedDict[str, dict[str, np.ndarray]] = OrderedDict()
        self._cache_left = cache_bytes

    @classmethod
    def open(cls, directory: Path, cache_bytes: int = CACHE_BYTES) -> Self:
        """Check manifest, index and the size of every shard.

        Raises MissingInputError, MismatchError, or RefusedError for a set of another kind.
        """
        manifest = _read_manifest(directory, cls.kind)
        index = directory / "episodes.parquet"
        found = sha256_of_file(index) if index.is_file() else "no file"
        if found != manifest["index_sha256"]:
            raise MismatchError("index and manifest differ", file=index, found=found, expected=manifest["index_sha256"])
        for shard in manifest["shards"]:
            path = inside(directory, shard["file"])
            size = path.stat().st_size if path.is_file() else "no file"
            if size != shard["bytes"]:
                raise MismatchError("a shard has another size", file=path, found=size, expected=shard["bytes"])
        return cls(directory, manifest, _read_rows(index), cache_bytes)

    def episodes(self, split: str) -> list[SampleRow]:
        """Samples of a split, sorted by key."""
        return [row for row in self._rows if row.split == split]

    def read(self, row: SampleRow) -> dict[str, np.ndarray]:
        """All arrays of an episode, read-only; their starts must be those of the grid."""
        if row.key in self._cache:
            self._cache.move_to_end(row.key)
            return self._cache[row.key]
        payloads = read_members(inside(self.directory, row.shard), row.members)
        arrays = {}
        for member, payload in zip(row.members, payloads, strict=True):
            array = parse_array(payload, self.directory / row.shard, member.name)
            array.flags.writeable = False
            arrays[member.name.removeprefix(row.key + ".").removesuffix(".npy")] = array
        expected = segment_starts(row.num_steps, self.segments.window, self.segments.phases)
        if not np.array_equal(arrays["starts"], expected):
            raise BadDataError("segments off the grid", file=self.directory / row.shard, place=row.key)
        self._remember(row.key, arrays)
        return arrays

    def limit_cache(self, cache_bytes: int) -> None:
        """Forget what was read, and hold at most so much from now on: many sets share one budget."""
        self._cache.clear()
        self._cache_left = cache_bytes

    def _remember(self, key: str, arrays: dict[str, np.ndarray]) -> None:
        self._cache[key] = arrays
        self._cache_left -= _num_bytes(arrays)
        while self._cache_left < 0 and self._cache:
            self._cache_left += _num_bytes(self._cache.popitem(last=False)[1])


class TokenSet(SampleSet):
    """Tokens, actions and validity of one dataset."""

    kind = "tokens"


class ZSet(SampleSet):
    """The prior's log-probabilities of one dataset."""

    kind = "z"

    @property
    def shape(self) -> tuple[int, int]:
        """(K, M) of the behavior model that made it. Raises BadDataError for a set without a sample."""
        if not self._rows:
            raise BadDataError("no sample in here", file=self.directory, remedy="embed a dataset with longer episodes")
        *_, categories, classes = self.read(self._rows[0])["z"].shape
        return categories, classes


def require_same_grid(tokens: TokenSet, z: ZSet) -> None:
    """Refuse to join tokens and z of another cut, other frame shards, or other episodes."""
    if tokens.grid != z.grid:
        raise RefusedError(
            "tokens and z lie on different grids", file=z.directory, found=z.grid, expected=tokens.grid,
            remedy="run embed_behavior on the shards and segments of pretokenize",
        )  # fmt: skip
    differing = {(row.key, row.num_segments) for row in tokens._rows} ^ {(row.key, row.num_segments) for row in z._rows}
    if differing:
        some = ", ".join(sorted(key for key, _ in differing)[:5])
        raise RefusedError("tokens and z have different episodes", file=z.directory, found=some)


def _num_bytes(arrays: dict[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _maker(kind: str) -> str:
    return {"tokens": "encoder", "z": "prior"}[kind]


def _read_manifest(directory: Path, kind: str) -> dict[str, Any]:
    path = directory / "manifest.json"
    if not path.is_file():
        raise MissingInputError(f"no {kind} here", file=path, remedy="run the stage that writes it: `dvc repro`")
    manifest = read_json(path)
    found = {key: manifest.get(key) for key in ("format", "kind")}
    if found != {"format": FORMAT, "kind": kind}:
        raise RefusedError("another kind of set", file=path, found=found, expected=f"{kind}, format {FORMAT}")
    if grid_digest(manifest["grid"]) != manifest["grid_digest"]:
        raise MismatchError("grid and its digest differ", file=path, found=manifest["grid"])
    return manifest


def _read_rows(index: Path) -> list[SampleRow]:
    rows = []
    for values in read_table(index, INDEX_SCHEMA).to_pylist():
        members = zip(values["names"], values["offsets"], values["sizes"], values["crc32c"], strict=True)
        plain = {name: values[name] for name in ("key", "split", "num_steps", "num_segments", "shard")}
        rows.append(SampleRow(**plain, members=tuple(Member(*member) for member in members)))
    return rows
