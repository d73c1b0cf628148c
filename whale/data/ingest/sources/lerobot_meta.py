"""What meta/ of a LeRobot dataset says (v2.0, v2.1 and v3.0): which rows and frames each episode is.

info.json's own counts and splits are not believed (published sets contradict their files): the list of episodes is.
Everything that is malformed is collected and told at once; what is wrong with a camera matters to whoever reads it.
Windows of one video may leave frames out, but they follow each other in the order of the episodes, do not overlap, and
are as long as the episode's rows.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from whale.common.errors import BadDataError, MissingInputError
from whale.common.limits import EPISODE_STEPS, FIRST_FRAME, FRAME_RATE
from whale.data.ingest.sources.columns import read_columns
from whale.data.ingest.sources.json_files import read_json, read_json_lines
from whale.data.storage.files import inside

VERSIONS = {"v2.0": "2.0.0", "v2.1": "2.1.0", "v3.0": "3.0.0"}
PLACEHOLDER = re.compile(r"\{([a-z_]+)(?::0(\d)d)?\}")
SHOWN = 20
ROWS_V3 = ("episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index")
ROUTE_V3 = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")  # of each camera


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


@dataclass
class Problems:
    """What is wrong in meta/: the first lines, and how many there are."""

    directory: Path
    lines: list[str] = field(default_factory=list)
    count: int = 0

    def text(self) -> str:
        more = [f"and {self.count - len(self.lines)} more"] if self.count > len(self.lines) else []
        return "\n            ".join([*self.lines, *more])

    def add(self, file: str, place: str, found: object, expected: str) -> None:
        self.count += 1
        if len(self.lines) < SHOWN:
            self.lines.append(f"{file}: {place}: found {found!r:.120}, expected {expected}")

    def raise_any(self, version: str) -> None:
        if not self.count:
            return
        raise BadDataError(
            f"meta/ is malformed: {self.count} problem{'s' if self.count > 1 else ''}", file=self.directory / "meta",
            found=self.text(), expected=f"what LeRobot {version} writes",
            remedy="write meta/ anew with LeRobot's own tools, or correct what is named",
        )  # fmt: skip


class LeRobotMeta:
    """meta/ of one dataset. BadDataError and MissingInputError name the file and the field; left_out: see `Source`."""

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
        self.left_out: dict[str, str] = {}
        self.problems = Problems(directory)
        self.of_cameras: dict[str, Problems] = {}
        self.fps = self._fps()
        self.features = self._features()
        self.tasks = self._tasks()
        entries = self._episodes_v3() if version == "v3.0" else self._episodes_v2()
        self.problems.raise_any(version)
        self.episodes = self._recorded(sorted(entries, key=lambda entry: entry.index))

    def video_keys(self) -> list[str]:
        """Video features whose files exist: info.json may name cameras that were never recorded."""
        return sorted({key for entry in self.episodes for key in entry.clips})

    def _say(
        self, place: str, found: object, expected: str, file: str = "meta/info.json", camera: str | None = None
    ) -> None:
        problems = self.problems
        if camera is not None:
            problems = self.of_cameras.setdefault(camera, Problems(self.directory))
        problems.add(file, place, found, expected)

    def _fps(self) -> float:
        value = self.info.get("fps")
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < FRAME_RATE:
            return float(value)
        self._say("fps", value, f"a number above 0, below {FRAME_RATE}")
        return 1.0

    def _features(self) -> dict[str, dict[str, Any]]:
        features = self.info.get("features")
        if not isinstance(features, dict):
            self._say("features", features, "an object")
            return {}
        for name, feature in features.items():
            if not isinstance(feature, dict):
                self._say(f"features.{name}", feature, "an object")
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}

    def _tasks(self) -> dict[int, str]:
        """task_index -> text."""
        if self.version != "3.0.0":
            file, rows = "meta/tasks.jsonl", read_json_lines(self.directory / "meta" / "tasks.jsonl")
            pairs: list[tuple[Any, Any]] = [(row.get("task_index"), row.get("task")) for row in rows]
        else:
            file, path = "meta/tasks.parquet", self.directory / "meta" / "tasks.parquet"
            if not path.is_file():
                raise MissingInputError(f"no {path.name}", file=path.parent)
            columns = read_columns(path)
            texts = next((values for values in columns.values() if isinstance(values, list)), None)
            numbers = columns.get("task_index")
            if texts is None or not _is_column(numbers):
                absent = "a column of text" if texts is None else "a column task_index of numbers"
                self._say("columns", sorted(columns), absent, file)
                return {}
            pairs = list(zip(numbers.tolist(), (text.decode("utf-8", "replace") for text in texts), strict=True))
        for number, (index, text) in enumerate(pairs):
            if not _is_count(index, FIRST_FRAME) or not isinstance(text, str):
                self._say(f"row {number}", (index, text), "task_index, a number from 0, and task, a text", file)
        return {int(index): text for index, text in pairs if _is_count(index, FIRST_FRAME) and isinstance(text, str)}

    def _episodes_v2(self) -> list[EpisodeEntry]:
        file, cameras, entries = "meta/episodes.jsonl", self._declared_videos(), list[EpisodeEntry]()
        chunk = self.info.get("chunks_size")
        if not _is_count(chunk, FIRST_FRAME) or not chunk:
            self._say("chunks_size", chunk, "a number from 1")
            chunk = 1000
        for number, row in enumerate(read_json_lines(self.directory / "meta" / "episodes.jsonl"), 1):
            index, length = row.get("episode_index"), row.get("length")
            if not _is_count(index, FIRST_FRAME) or not _is_count(length, EPISODE_STEPS):
                expected = f"numbers, episode_index from 0 and length from 0 to {EPISODE_STEPS}"
                self._say(f"line {number}", {"episode_index": index, "length": length}, expected, file)
                continue
            values = {"episode_index": int(index), "episode_chunk": int(index) // int(chunk)}
            clips = {key: Clip(self._path("video_path", video_key=key, **values), 0, True) for key in cameras}
            texts = row.get("tasks")
            tasks = tuple(map(str, texts)) if isinstance(texts, list) else ()
            entries.append(EpisodeEntry(int(index), int(length), self._path("data_path", **values), 0, clips, tasks))
        return entries

    def _episodes_v3(self) -> list[EpisodeEntry]:
        routes = {key: [f"videos/{key}/{name}" for name in ROUTE_V3] for key in self._declared_videos()}
        routing = [name for names in routes.values() for name in names]
        entries, windows = list[EpisodeEntry](), dict[tuple[str, str], list[tuple[int, int, int]]]()
        paths = sorted((self.directory / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
        if not paths:
            self._say("files", "none", "chunk-000/file-000.parquet and so on", "meta/episodes")
        for path in paths:
            file = path.relative_to(self.directory).as_posix()
            columns = read_columns(path, {*ROWS_V3, *routing}, nullable=routing)
            absent = [name for name in ROWS_V3 if not _is_column(columns.get(name))]
            for key, names in routes.items():
                lacking = [name for name in names if not _is_column(columns.get(name))]
                for name in lacking if len(lacking) < len(names) else ():
                    self._say(name, "no such column of numbers", "one number for each episode", file, key)
            for name in absent:
                self._say(name, "no such column of numbers", "one number for each episode", file)
            if not absent:
                known = {key: names for key, names in routes.items() if all(n in columns for n in names)}
                entries += self._rows_v3(file, columns, known, windows)
        for (key, video), found in sorted(windows.items()):
            self._check_windows(key, video, found)
        self._check_order(entries)
        first_rows: dict[str, int] = {}
        for entry in entries:
            first_rows[entry.file] = min(entry.first_row, first_rows.get(entry.file, entry.first_row))
        return [EpisodeEntry(**{**vars(entry), "first_row": entry.first_row - first_rows[entry.file]})
                for entry in entries]  # fmt: skip

    def _rows_v3(
        self,
        file: str,
        columns: Mapping[str, Any],
        routes: Mapping[str, Sequence[str]],
        windows: dict[tuple[str, str], list[tuple[int, int, int]]],
    ) -> Iterable[EpisodeEntry]:
        """Entries of one file of meta/episodes, rows as they count in the dataset; fills (camera, video) -> windows."""
        for row in range(len(columns["episode_index"])):
            numbers = {name: columns[name][row] for name in ROWS_V3}
            place = f"row {row}, episode {numbers['episode_index']}"
            wrong = {name: value for name, value in numbers.items() if not _is_count(value, FIRST_FRAME)}
            if wrong:
                self._say(place, {name: float(value) for name, value in wrong.items()}, "whole numbers from 0", file)
                continue
            index, length, chunk, part, first, last = (int(numbers[name]) for name in ROWS_V3)
            if last - first != length or length > EPISODE_STEPS:
                self._say(place, f"rows {first} to {last}, length {length}", f"length {last - first}", file)
                continue
            clips = {}
            for key, names in routes.items():
                clip = self._clip(place, key, [float(columns[name][row]) for name in names], length, file)
                if clip is not None:
                    clips[key] = clip
                    windows.setdefault((key, clip.file), []).append((clip.start, length, index))
            data = self._path("data_path", chunk_index=chunk, file_index=part)
            yield EpisodeEntry(index, length, data, first, clips, ())

    def _clip(self, place: str, key: str, route: Sequence[float], length: int, file: str) -> Clip | None:
        """The window of one camera; None where it has none (every number is empty), or one that is told as wrong."""
        if all(map(math.isnan, route)):
            return None
        chunk, part, start, stop = route
        window = f"{key}, from {start:g} s to {stop:g} s"
        frames = [round(time * self.fps) if 0 <= time * self.fps <= FIRST_FRAME else -1 for time in (start, stop)]
        if not (_is_count(chunk, FIRST_FRAME) and _is_count(part, FIRST_FRAME)) or min(frames) < 0:
            self._say(f"{place}, {window}", list(route), f"{', '.join(ROUTE_V3)}: numbers from 0", file, key)
            return None
        if frames[1] - frames[0] != length:
            found = f"{frames[1] - frames[0]} frames at {self.fps:g} fps"
            self._say(f"{place}, {window}", found, f"{length} frames, as the episode has rows", file, key)
            return None
        return Clip(
            self._path("video_path", video_key=key, chunk_index=int(chunk), file_index=int(part)), frames[0], False
        )

    def _check_windows(self, key: str, video: str, windows: list[tuple[int, int, int]]) -> None:
        """No frame belongs to two episodes."""
        for (start, length, episode), (later, _, other) in pairwise(sorted(windows)):
            if later < start + length:
                place = f"episodes {min(episode, other)} and {max(episode, other)}, {key}"
                found = f"both show frames {later} to {start + length - 1} of {video}"
                self._say(place, found, "windows that do not overlap", "meta/episodes", key)

    def _check_order(self, entries: Iterable[EpisodeEntry]) -> None:
        """Recorders and the tools of LeRobot write one episode behind the other: an order of their own is a mix-up."""
        before: dict[str, tuple[str, int, int]] = {}
        for entry in sorted(entries, key=lambda entry: entry.index):
            for key, clip in entry.clips.items():
                file, start, index = before.get(key, ("", 0, 0))
                if (_natural(clip.file), clip.start) < (_natural(file), start):
                    found = f"frame {clip.start} of {clip.file}, before episode {index} (frame {start} of {file})"
                    self._say(f"episode {entry.index}, {key}", found, "episodes in order", "meta/episodes", key)
                before[key] = clip.file, clip.start, entry.index

    def _declared_videos(self) -> list[str]:
        return sorted(key for key, feature in self.features.items() if feature.get("dtype") == "video")

    def _path(self, template: str, **values: Any) -> str:
        """A template of info.json filled in: known placeholders only, and the result stays in the folder."""

        def value(match: re.Match[str]) -> str:
            filled = values[match[1]]
            return f"{filled:0{int(match[2])}d}" if match[2] and isinstance(filled, int) else str(filled)

        text = self.info.get(template)
        try:
            name = PLACEHOLDER.sub(value, text if isinstance(text, str) else "{absent}")
            if set(name) & set("{}:"):
                raise KeyError(name)  # a placeholder that there is not, an address
            inside(self.directory, name, any_letters=True)
        except (KeyError, BadDataError):
            if not any(line.startswith(f"meta/info.json: {template}") for line in self.problems.lines):
                self._say(template, text, f"a path below the folder, of {', '.join(f'{{{key}}}' for key in values)}")
            return "unknown"
        return name

    def _recorded(self, entries: list[EpisodeEntry]) -> list[EpisodeEntry]:
        """Without the clips whose files are not there: which cameras those are is told, and matters where one is read.

        BadDataError for an episode that is listed twice.
        """
        indices = [entry.index for entry in entries]
        if len(set(indices)) != len(indices):
            twice = sorted({index for index in indices if indices.count(index) > 1})[:SHOWN]
            raise BadDataError("an episode is listed twice", file=self.directory / "meta", found=twice)
        there: dict[str, bool] = {}
        for entry in entries:
            for clip in entry.clips.values():
                if clip.file not in there:
                    there[clip.file] = (self.directory / clip.file).is_file()
        kept = []
        for entry in entries:
            clips = {key: clip for key, clip in entry.clips.items() if there[clip.file] and key not in self.of_cameras}
            kept.append(EpisodeEntry(**{**vars(entry), "clips": clips}))
        for key in self._declared_videos():
            lacking = [number for number, entry in enumerate(kept) if key not in entry.clips]
            if key in self.of_cameras:
                self.left_out[key] = self.of_cameras[key].text()
            elif lacking:
                named = entries[lacking[0]].clips.get(key)
                why = "no video is named" if named is None else f"{named.file} is not there"
                which = "any episode" if len(lacking) == len(kept) else f"{len(lacking)} of {len(kept)} episodes"
                self.left_out[key] = f"no video of {which}, e.g. episode {kept[lacking[0]].index}: {why}"
        return kept


def _natural(file: str) -> list[int]:
    """The numbers in a file's name: how its files are ordered, padded with zeros or not."""
    return [int(number) for number in re.findall(r"\d+", file)]


def _is_count(value: Any, most: int) -> TypeGuard[float]:
    """A whole number from 0 to `most`."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return is_number and 0 <= value <= most and int(value) == value


def _is_column(values: object) -> TypeGuard[np.ndarray]:
    return isinstance(values, np.ndarray) and values.ndim == 1
