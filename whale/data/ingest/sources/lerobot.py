"""LeRobot datasets (v2.0, v2.1, v3.0) on disk: parquet rows and mp4 frames, matched by index.

A spec reads columns and video keys by their names in info.json ("observation.state", "observation.images.top"); the
text of a row's task is the step feature `task`. `next.reward` and `next.done` are `reward` and `is_last` as well.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.errors import BadDataError
from whale.data.ingest.sources.columns import column_names, content_sha256, read_columns
from whale.data.ingest.sources.lerobot_meta import EpisodeEntry, LeRobotMeta
from whale.data.ingest.sources.source import ALL, ShardFile, grouped, measured
from whale.data.ingest.sources.video import VideoFile, VideoFrames
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected

RENAMED = {"next.reward": "reward", "next.done": "is_last"}
TASK = "task"
BOOKKEEPING = ("task_index", "frame_index", "timestamp", "next.reward", "next.done", "episode_index")


class LeRobotSource:
    """`name` is the folder's, as LeRobot datasets do not know theirs; `version` is that of the format."""

    def __init__(self, directory: Path, name: str):
        self.directory, self.name = Path(directory), name
        self.meta = LeRobotMeta(self.directory)
        self.version = self.meta.version
        self.splits: dict[str, list[ShardFile]] = {ALL: grouped([e.files for e in self.meta.episodes], "episodes")}

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
        """Columns of the episode's rows; the last file is kept, as v3.0 has many episodes in one."""
        if self._table[0] != entry.file:
            keys = None if self.keys is None else {*self.keys, *BOOKKEEPING}
            self._table = (entry.file, read_columns(self.source.directory / entry.file, keys))
        columns = {n: v[entry.first_row : entry.first_row + entry.length] for n, v in self._table[1].items()}
        rows = len(next(iter(self._table[1].values()), []))
        is_whole = self.source.version != "3.0.0"
        if (is_whole and rows != entry.length) or rows < entry.first_row + entry.length:
            detail = f"{entry.file} has {rows} rows, meta/ says {entry.first_row} + {entry.length}"
            raise EpisodeError("length_mismatch", detail)
        numbers = columns.get("episode_index")
        if numbers is not None and len(numbers) and not (np.asarray(numbers) == entry.index).all():
            raise EpisodeError("length_mismatch", f"{entry.file}: rows of episode {numbers[0]}, expected {entry.index}")
        return columns

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
            self.videos[key] = VideoFile(path)
        return self.videos[key]

    def _texts(self, columns: dict[str, Any], entry: EpisodeEntry) -> list[bytes]:
        indices = columns.get("task_index")
        if indices is None:
            return [(entry.tasks[0] if entry.tasks else "").encode()] * entry.length
        unknown = sorted(set(np.asarray(indices).tolist()) - self.source.meta.tasks.keys())
        if unknown:
            raise EpisodeError("missing_key", f"{entry.file}: task_index {unknown[0]} is not in meta/tasks")
        return [self.source.meta.tasks[int(index)].encode() for index in indices]
