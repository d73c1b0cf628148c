"""LeRobot datasets (v2.0, v2.1, v3.0) on disk: parquet rows and mp4 frames, matched by index.

A spec reads columns and video keys by their names in info.json ("observation.state", "observation.images.top"); the
text of a row's task is the step feature `task`. `next.reward` and `next.done` are `reward` and `is_last` as well.
"""

from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.errors import BadDataError
from whale.data.ingest.sources.columns import column_names, content_sha256, other_columns, read_columns
from whale.data.ingest.sources.lerobot_meta import EpisodeEntry, LeRobotMeta
from whale.data.ingest.sources.source import ALL, ShardFile, grouped, measured
from whale.data.ingest.sources.video import TIME_TOLERANCE, VideoFile, VideoFrames
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected

RENAMED = {"next.reward": "reward", "next.done": "is_last"}
TASK = "task"
RATE_TOLERANCE = 0.05  # of the frames a second, over an episode
BOOKKEEPING = ("task_index", "frame_index", "timestamp", "next.reward", "next.done", "episode_index")


class LeRobotSource:
    """`name` is the folder's, as LeRobot datasets do not know theirs; `version` is that of the format."""

    def __init__(self, directory: Path, name: str):
        self.directory, self.name = Path(directory), name
        self.meta = LeRobotMeta(self.directory)
        self.version, self.rate = self.meta.version, self.meta.fps
        self.columns = {name: feature.get("names") for name, feature in self.meta.features.items()}
        self.splits: dict[str, list[ShardFile]] = {ALL: grouped([e.files for e in self.meta.episodes], "episodes")}

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Cameras without videos, and columns of a kind that is not read."""
        file = self.meta.episodes[0].file if self.meta.episodes else ""
        others = other_columns(self.directory / file) if (self.directory / file).is_file() else []
        return self.meta.left_out | dict.fromkeys(others, "a column of a kind that is not read")

    @property
    def features(self) -> list[str]:
        columns = column_names(self.directory / self.meta.episodes[0].file) if self.meta.episodes else []
        renamed = [RENAMED[name] for name in columns if name in RENAMED]
        return sorted({*columns, *renamed, *self.meta.video_keys(), TASK, "is_first"})

    def read_shard(
        self, split: str, index: int, keys: Collection[str] | None = None, hashed: bool = True
    ) -> "LeRobotReader":
        return LeRobotReader(self, self.splits[split][index], keys, hashed)


class LeRobotReader:
    """The episodes of one unit, each a RawEpisode or a Rejected; `files` is complete at the end."""

    def __init__(self, source: LeRobotSource, shard: ShardFile, keys: Collection[str] | None, hashed: bool):
        self.source, self.shard, self.keys, self.hashed = source, shard, keys, hashed
        self.files: dict[str, tuple[int, str]] = {}
        self._table: tuple[str, dict[str, Any]] = ("", {})
        self._owned: dict[int, np.ndarray] | None = None  # episode -> numbers of its rows in that table
        self.videos: dict[str, VideoFile] = {}  # camera -> the file that is being read

    def __iter__(self) -> Iterator[RawEpisode | Rejected]:
        self.files = {file: measured(self.source.directory / file, self.hashed) for file in self.shard.files}
        first = self.shard.first_ordinal
        for number, entry in enumerate(self.source.meta.episodes[first : first + self.shard.records]):
            yield self._episode(entry, number)

    def _episode(self, entry: EpisodeEntry, number: int) -> RawEpisode | Rejected:
        try:
            columns = self._rows(entry)
            steps = self._steps(columns, entry)
        except BadDataError as error:
            return Rejected("decode_error", f"{error.what}: {error.place or ''} {error.found}", entry.file, number)
        except EpisodeError as error:
            return Rejected(error.reason, str(error), entry.file, number, num_steps=entry.length)
        extra = [f"{self.files[clip.file][1]}:{clip.start}" for clip in entry.clips.values()]
        metadata = {"episode_index": np.int64(entry.index), "tasks": "; ".join(entry.tasks).encode()}
        digest = content_sha256(columns, extra)
        return RawEpisode(steps, entry.length, metadata, entry.file, number, entry.first_row, digest)

    def _rows(self, entry: EpisodeEntry) -> dict[str, Any]:
        """Columns of the episode's rows, in the order of time; the last file is kept, as v3.0 has many episodes in one.

        Whose a row is, and when, says the row itself, as far as it does: a file may hold others, in any order.
        """
        if self._table[0] != entry.file:
            keys = None if self.keys is None else {*self.keys, *BOOKKEEPING}
            self._table = (entry.file, read_columns(self.source.directory / entry.file, keys))
            self._owned = _by_episode(self._table[1].get("episode_index"))
        table = self._table[1]
        chosen = self._chosen(table, entry)
        if len(chosen) and (np.diff(chosen) == 1).all():
            together = slice(int(chosen[0]), int(chosen[-1]) + 1)
            columns = {name: values[together] for name, values in table.items()}
        else:
            columns = {
                name: [values[row] for row in chosen] if isinstance(values, list) else values[chosen]
                for name, values in table.items()
            }
        _check_times(columns, self.source.meta.fps, entry)
        return columns

    def _chosen(self, table: dict[str, Any], entry: EpisodeEntry) -> np.ndarray:
        """Numbers of the rows of one episode."""
        rows = len(next(iter(table.values()), []))
        if self._owned is None:
            is_whole = self.source.version != "3.0.0"
            if (is_whole and rows != entry.length) or rows < entry.first_row + entry.length:
                detail = f"{entry.file} has {rows} rows, meta/ says {entry.first_row} + {entry.length}"
                raise EpisodeError("length_mismatch", detail)
            chosen = np.arange(entry.first_row, entry.first_row + entry.length)
        else:
            chosen = self._owned.get(entry.index, np.zeros(0, np.int64))
        if len(chosen) != entry.length:
            held = f"{len(chosen)} rows of episode {entry.index} among those of {len(self._owned or [])} episodes"
            raise EpisodeError("length_mismatch", f"{entry.file} has {held}, meta/ says {entry.length}")
        frames = table.get("frame_index")
        if frames is None:
            return chosen
        order_T = np.argsort(np.asarray(frames)[chosen], kind="stable")
        found_T = np.asarray(frames)[chosen[order_T]]
        if len(found_T) and not (found_T == np.arange(len(found_T))).all():
            step = int(np.argmax(found_T != np.arange(len(found_T))))
            detail = f"{entry.file}, episode {entry.index}: frame_index {found_T[step]} at step {step}, expected {step}"
            raise EpisodeError("time_gap", detail)
        return chosen[order_T]

    def _steps(self, columns: dict[str, Any], entry: EpisodeEntry) -> dict[str, Any]:
        steps = dict(columns)
        steps |= {new: columns[old] for old, new in RENAMED.items() if old in columns}
        steps["is_first"] = np.arange(entry.length) == 0
        steps[TASK] = self._texts(columns, entry)
        for key, clip in entry.clips.items():
            if self.keys is None or key in self.keys:
                steps[key] = VideoFrames(self._video(key, clip.file), clip.start, entry.length, clip.is_whole)
        return steps

    def _video(self, key: str, file: str) -> VideoFile:
        path = self.source.directory / file
        if key not in self.videos or self.videos[key].path != path:
            self.videos[key] = VideoFile(path, self.source.meta.fps)
        return self.videos[key]

    def _texts(self, columns: dict[str, Any], entry: EpisodeEntry) -> list[bytes]:
        indices = columns.get("task_index")
        if indices is None:
            return [(entry.tasks[0] if entry.tasks else "").encode()] * entry.length
        unknown = sorted(set(np.asarray(indices).tolist()) - self.source.meta.tasks.keys())
        if unknown:
            raise EpisodeError("missing_key", f"{entry.file}: task_index {unknown[0]} is not in meta/tasks")
        return [self.source.meta.tasks[int(index)].encode() for index in indices]


def _by_episode(owners: Any) -> dict[int, np.ndarray] | None:
    """Episode -> its rows; None where the rows do not say whose they are."""
    if owners is None or not len(owners):
        return None
    order_N = np.argsort(owners, kind="stable")
    indices, starts = np.unique(np.asarray(owners)[order_N], return_index=True)
    return dict(zip(indices.tolist(), np.split(order_N, starts[1:]), strict=True))


def _check_times(columns: dict[str, Any], fps: float, entry: EpisodeEntry) -> None:
    """Rows stand for one period each: a step of another length by more than TIME_TOLERANCE of it is refused."""
    times = columns.get("timestamp")
    if not isinstance(times, np.ndarray) or len(times) < 2:
        return
    periods_T = np.diff(times.reshape(len(times), -1)[:, 0].astype(np.float64)) * fps
    wrong_T = ~(np.abs(periods_T - 1.0) <= TIME_TOLERANCE)  # NaN is wrong
    if wrong_T.any():
        step = int(np.argmax(wrong_T))
        detail = f"timestamp moves by {periods_T[step] / fps:.4g} s from step {step} to {step + 1}"
        expected = f"expected {1 / fps:.4g} s ({fps:g} fps) give or take {TIME_TOLERANCE:.0%}"
        raise EpisodeError("time_gap", f"{entry.file}, episode {entry.index}: {detail}, {expected}")
    if abs(float(periods_T.mean()) - 1.0) > RATE_TOLERANCE:
        found = f"{fps / float(periods_T.mean()):.4g} rows a second, info.json says fps {fps:g}"
        raise EpisodeError("time_gap", f"{entry.file}, episode {entry.index}: {found}")
