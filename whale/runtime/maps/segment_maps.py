"""Frame shards -> token shards or z shards: the mapping functions, one input tar to one output tar of the same name.

The model comes as a callable, so this module needs numpy only; the bytes depend on the input tar and the model, not on
who else works. One episode is one call of the model.

Shapes: S segments of an episode, T window, N tokens per frame, F frames, H W C image, A = 7,
K x M categories x classes of z.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.errors import MismatchError
from whale.data.segments import grid
from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import SegmentConfig
from whale.data.storage.episode_index import EpisodeRow
from whale.data.storage.shards import ShardSet, array_bytes
from whale.data.storage.tar import Member, TarWriter
from whale.runtime.maps.history import along_the_episode, cut_z, history_starts

Encode = Callable[[np.ndarray], np.ndarray]
Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]
Arrays = Mapping[str, np.ndarray]
Members = Callable[[EpisodeRow, np.ndarray, np.ndarray, Arrays], Arrays]


@dataclass(frozen=True)
class ShardTask:
    """One unit of mapping: the frame shard `file` of `shards_dir`, to the file of the same name in `out_dir`."""

    shards_dir: str
    file: str
    split: str
    out_dir: str
    segments: SegmentConfig
    shards_digest: str


@dataclass(frozen=True)
class Embedder:
    """What `embed_shard` needs of a prior: embed(frames uint8 [S,T,H,W,3], actions in [-1,1] [S,T,A]) -> [S,T,K,M].

    `memory`: how many steps it looks back on; None: on those of the segment.
    """

    embed: Embed
    normalizer: ActionNormalizer
    memory: int | None = None


def shard_tasks(shards_dir: Path, out_dir: Path, segments: SegmentConfig) -> list[ShardTask]:
    """One task for every frame shard that holds a kept episode, sorted; paths are absolute."""
    shard_set = ShardSet.open(shards_dir)
    files = sorted((split, shard) for split in shard_set.splits for shard in shard_set.episodes(split).shards())
    where, to = str(shards_dir.absolute()), str(out_dir.absolute())
    return [ShardTask(where, file, split, to, segments, shard_set.digest) for split, file in files]


def tokenize_shard(encode: Encode, task: ShardTask) -> dict[str, Any]:
    """Write the token shard of a task; returns its manifest fragment. One episode is one call of `encode`."""
    window = task.segments.window

    def members(row: EpisodeRow, starts: np.ndarray, frames_FHWC: np.ndarray, arrays: Arrays) -> Arrays:
        action_STA, valid_ST = _actions(arrays, starts, window)
        tokens_STN = encode(_windows(frames_FHWC, starts, window + 1))
        if tokens_STN.dtype != np.uint16:
            raise TypeError(f"tokens are stored as uint16, not {tokens_STN.dtype}")
        return {
            "tokens": tokens_STN,
            "num_frames": grid.segment_num_frames(row.num_steps, starts, window),
            "action": action_STA,
            "action_valid": valid_ST,
        }

    return _map_shard(task, members)


def embed_shard(embedder: Embedder, task: ShardTask) -> dict[str, Any]:
    """Write the z shard of a task; returns its manifest fragment. One episode is one call of `embed`."""
    window = task.segments.window

    def members(row: EpisodeRow, starts: np.ndarray, frames_FHWC: np.ndarray, arrays: Arrays) -> Arrays:
        def embedded(starts: np.ndarray, length: int) -> np.ndarray:
            action_STA, valid_ST = _actions(arrays, starts, length)
            normalized_STA = grid.normalize_actions(embedder.normalizer.normalize, action_STA, valid_ST)
            return embedder.embed(_windows(frames_FHWC, starts, length), normalized_STA)

        if embedder.memory is None:
            z_STKM = embedded(starts, window)
        else:
            z_PHKM = embedded(history_starts(row.num_steps, embedder.memory), embedder.memory)
            z_STKM = cut_z(along_the_episode(z_PHKM, row.num_steps, embedder.memory), starts, window)
        if z_STKM.dtype != np.float16 or not np.isfinite(z_STKM).all():
            raise TypeError(f"z must be finite float16, found {z_STKM.dtype}")
        return {"z": z_STKM}

    return _map_shard(task, members)


def grid_of_shards(shards_dir: Path, segments: SegmentConfig) -> dict[str, int | str]:
    """The grid that samples made from these shards lie on."""
    return grid.grid_of(segments, ShardSet.open(shards_dir).digest)


def _map_shard(task: ShardTask, members: Members) -> dict[str, Any]:
    shard_set = _opened(task.shards_dir, task.shards_digest)
    window, phases = task.segments.window, task.segments.phases
    rows: list[dict[str, Any]] = []
    episodes = list(shard_set.episodes(task.split).in_shard(task.file))
    cut = [(row, grid.segment_starts(row.num_steps, window, phases)) for row in episodes]
    long_enough = [(row, starts) for row, starts in cut if len(starts)]
    too_short = len(cut) - len(long_enough)
    with TarWriter(Path(task.out_dir), task.file) as tar:
        for (row, starts), (frames_FHWC, read) in zip(long_enough, _read_ahead(shard_set, long_enough), strict=True):
            arrays = {"starts": starts, **members(row, starts, frames_FHWC, read)}
            written = tar.write_sample(row.key, {f"{name}.npy": array_bytes(array) for name, array in arrays.items()})
            rows.append(_index_row(row, len(starts), task.file, written))
    if tar.info is None:
        raise AssertionError("a finished shard has no info")
    shard = {"file": task.file, "split": task.split, "bytes": tar.info.bytes, "sha256": tar.info.sha256}
    return {**shard, "episodes": len(rows), "too_short": too_short, "rows": rows}


def _read_ahead(
    shard_set: ShardSet, cut: Sequence[tuple[EpisodeRow, np.ndarray]]
) -> Iterator[tuple[np.ndarray, Arrays]]:
    """Frames and arrays of each episode; the next one is read and decoded while the model has the one before."""

    def read(row: EpisodeRow) -> tuple[np.ndarray, Arrays]:
        return shard_set.read_frames(row, 0, row.num_steps), shard_set.read_arrays(row)

    with ThreadPoolExecutor(1) as reader:
        ahead = None
        for row, _ in cut:
            coming = reader.submit(read, row)
            if ahead is not None:
                yield ahead.result()
            ahead = coming
        if ahead is not None:
            yield ahead.result()


@lru_cache(maxsize=2)
def _opened(shards_dir: str, digest: str) -> ShardSet:
    """Opened once per process, not once per shard: the index of a large dataset is large."""
    shard_set = ShardSet.open(Path(shards_dir))
    if shard_set.digest != digest:
        raise MismatchError("the shards changed while they were read", file=shards_dir, found=shard_set.digest,
                            expected=digest)  # fmt: skip
    return shard_set


def _index_row(row: EpisodeRow, num_segments: int, shard: str, written: Sequence[Member]) -> dict[str, Any]:
    return {
        "key": row.key,
        "split": row.split,
        "num_steps": row.num_steps,
        "num_segments": num_segments,
        "shard": shard,
        "names": [member.name for member in written],
        "offsets": [member.offset for member in written],
        "sizes": [member.size for member in written],
        "crc32c": [member.crc32c for member in written],
    }


def _windows(frames_FHWC: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    return np.stack([grid.pad_frames(frames_FHWC[start : start + length], length) for start in starts])


def _actions(arrays: Arrays, starts: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    cuts = [grid.cut_actions(arrays["action"], arrays["action_valid"], int(start), window) for start in starts]
    return np.stack([action for action, _ in cuts]), np.stack([valid for _, valid in cuts])
