"""What meta/ of a LeRobot dataset says (v2.0, v2.1 and v3.0): which rows and frames each episode is.

info.json's own counts and splits are not believed (published sets contradict their files): the list of episodes is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError, MissingInputError
from whale.common.limits import EPISODE_STEPS
from whale.data.ingest.sources.columns import read_columns
from whale.data.ingest.sources.json_files import read_json, read_json_lines
from whale.data.storage.files import inside

VERSIONS = {"v2.0": "2.0.0", "v2.1": "2.1.0", "v3.0": "3.0.0"}
PLACEHOLDER = re.compile(r"\{([a-z_]+)(?::0(\d)d)?\}")
# A field is missing, of another type, zero, infinite; a table has no column of text.
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, StopIteration)
MAX_START = 10**8  # frames of one video


@dataclass(frozen=True)
class Clip:
    """Frames `start` to `start + length` - 1 of a video; `is_whole`: the file holds nothing else."""

    file: str
    start: int
    is_whole: bool


@dataclass(frozen=True)
class EpisodeEntry:
    """Rows `first_row` to `first_row + length` - 1 of a parquet file; one clip per camera; its texts."""

    index: int
    length: int
    file: str
    first_row: int
    clips: Mapping[str, Clip]
    tasks: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file, *(clip.file for clip in self.clips.values()))


class LeRobotMeta:
    """meta/ of one dataset. BadDataError and MissingInputError name the file and the field."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.file = directory / "meta" / "info.json"
        self.info: dict[str, Any] = read_json(self.file, remedy="name the folder that holds meta/info.json")
        if not isinstance(self.info, dict):
            found = type(self.info).__name__
            raise BadDataError("info.json is malformed", file=self.file, found=found, expected="an object")
        version = self.info.get("codebase_version")
        if not isinstance(version, str) or version not in VERSIONS:
            raise BadDataError(
                "LeRobot version not supported", file=self.file, place="codebase_version", found=version,
                expected=", ".join(VERSIONS),
            )  # fmt: skip
        self.version = VERSIONS[version]
        self.fps = self._number("fps")
        features = self.info.get("features")
        if not isinstance(features, dict):
            raise BadDataError(
                "info.json is malformed", file=self.file, place="features", found=type(features).__name__
            )
        self.features: dict[str, dict[str, Any]] = features
        try:
            self.tasks = self._tasks()
            self.episodes = self._episodes_v3() if version == "v3.0" else self._episodes_v2()
        except MALFORMED as error:
            what = f"{type(error).__name__}: {error}"
            raise BadDataError("meta/ is malformed", file=directory / "meta", found=what) from None

    def video_keys(self) -> list[str]:
        """Video features whose files exist: info.json may name cameras that were never recorded."""
        return sorted(self.episodes[0].clips) if self.episodes else []

    def _number(self, key: str) -> float:
        value = self.info.get(key)
        if not isinstance(value, int | float) or not 0 < value < 10_000:
            raise BadDataError("info.json is malformed", file=self.file, place=key, found=value)
        return float(value)

    def _tasks(self) -> dict[int, str]:
        """task_index -> text."""
        if self.version != "3.0.0":
            rows = read_json_lines(self.directory / "meta" / "tasks.jsonl")
            return {int(row["task_index"]): str(row["task"]) for row in rows}
        path = self.directory / "meta" / "tasks.parquet"
        if not path.is_file():
            raise MissingInputError(f"no {path.name}", file=path.parent)
        columns = read_columns(path)
        texts = next(values for values in columns.values() if isinstance(values, list))
        return dict(zip(map(int, columns["task_index"]), (text.decode() for text in texts), strict=True))

    def _episodes_v2(self) -> list[EpisodeEntry]:
        rows = sorted(read_json_lines(self.directory / "meta" / "episodes.jsonl"), key=lambda row: row["episode_index"])
        cameras = self._declared_videos()
        entries = []
        for row in rows:
            index = int(row["episode_index"])
            values = {"episode_index": index, "episode_chunk": index // int(self.info["chunks_size"])}
            clips = {key: Clip(self._path("video_path", video_key=key, **values), 0, True) for key in cameras}
            clips = {key: clip for key, clip in clips.items() if (self.directory / clip.file).is_file()}
            tasks = tuple(map(str, row.get("tasks", [])))
            file = self._path("data_path", **values)
            entries.append(EpisodeEntry(index, _length(row["length"]), file, 0, clips, tasks))
        return self._checked(entries)

    def _episodes_v3(self) -> list[EpisodeEntry]:
        cameras, entries, first_rows = self._declared_videos(), [], dict[str, int]()
        for path in sorted((self.directory / "meta" / "episodes").glob("chunk-*/file-*.parquet")):
            columns = read_columns(path)
            for row in range(len(columns["episode_index"])):
                entries.append(self._entry_v3({name: values[row] for name, values in columns.items()}, cameras))
        entries.sort(key=lambda entry: entry.index)
        placed = []
        for entry in entries:  # a file's first row is that of its first episode
            first = first_rows.setdefault(entry.file, entry.first_row)
            if entry.first_row < first:
                raise ValueError(f"episode {entry.index}: row {entry.first_row}, its file begins at row {first}")
            placed.append(EpisodeEntry(**{**vars(entry), "first_row": entry.first_row - first}))
        return self._checked(placed)

    def _entry_v3(self, row: Mapping[str, Any], cameras: list[str]) -> EpisodeEntry:
        data = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
        clips = {}
        for key in cameras:
            if f"videos/{key}/file_index" not in row:
                continue
            place = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
            start = round(float(row[f"videos/{key}/from_timestamp"]) * self.fps)
            if not 0 <= start <= MAX_START:
                raise ValueError(f"episode {row['episode_index']}: its video starts at frame {start}")
            clips[key] = Clip(self._path("video_path", video_key=key, **place), start, False)
        first, last = int(row["dataset_from_index"]), int(row["dataset_to_index"])
        length = _length(row["length"])
        if last - first != length:
            raise ValueError(f"episode {row['episode_index']}: rows {first} to {last}, length {length}")
        return EpisodeEntry(int(row["episode_index"]), length, self._path("data_path", **data), first, clips, ())

    def _declared_videos(self) -> list[str]:
        return sorted(key for key, feature in self.features.items() if feature.get("dtype") == "video")

    def _path(self, template: str, **values: Any) -> str:
        """A template of info.json filled in: known placeholders only, and the result stays in the folder."""

        def value(match: re.Match[str]) -> str:
            filled = values[match[1]]
            return f"{filled:0{int(match[2])}d}" if match[2] else str(filled)

        name = PLACEHOLDER.sub(value, str(self.info[template]))
        inside(self.directory, name)
        return name

    def _checked(self, entries: list[EpisodeEntry]) -> list[EpisodeEntry]:
        indices = [entry.index for entry in entries]
        if len(set(indices)) != len(indices):
            raise BadDataError("an episode is listed twice", file=self.directory / "meta", found=sorted(indices)[:20])
        missing = [file for entry in entries for file in entry.files if not (self.directory / file).is_file()]
        if missing:
            raise MissingInputError("source files are missing", file=self.directory, found=missing[:5])
        cameras = {tuple(sorted(entry.clips)) for entry in entries}
        if len(cameras) > 1:
            raise MissingInputError("some episodes lack a camera's video", file=self.directory, found=sorted(cameras))
        return entries


def _length(value: Any) -> int:
    length = int(value)
    if not 0 <= length <= EPISODE_STEPS:
        raise ValueError(f"episode length {length}")
    return length
