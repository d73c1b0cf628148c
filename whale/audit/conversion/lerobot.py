"""LeRobot (v2.0, v2.1, v3.0) by pyarrow and PyAV: frames are sought by their time stamps, as LeRobot itself finds them.

Our own reader counts frames. A row's frame is the one shown at `from_timestamp` (v3.0; 0 before) + `timestamp`,
counted from the episode's first row.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet as pq

from whale.audit.conversion.plain import PlainEpisode
from whale.common.json_files import read_json
from whale.data.ingest.sources.json_files import read_json_lines
from whale.data.storage.files import inside

LOCAL = {"enable_drefs": "0", "use_absolute_path": "0"}  # a video may not open another file


class LeRobotByTime:
    how = f"pyarrow {pyarrow.__version__}, PyAV {av.__version__} by time stamp"

    def __init__(self, directory: Path):
        self.directory = Path(directory)
        self.info = read_json(self.directory / "meta/info.json")
        self.is_v3 = self.info["codebase_version"] == "v3.0"
        meta = self.directory / "meta"
        if self.is_v3:
            files = sorted((meta / "episodes").glob("chunk-*/file-*.parquet"))
            rows = [row for file in files for row in pq.read_table(file).to_pylist()]
            table = pq.read_table(meta / "tasks.parquet").to_pydict()
            texts = next(values for name, values in table.items() if name != "task_index")
            self.tasks = dict(zip(table["task_index"], texts, strict=True))
        else:
            rows = read_json_lines(meta / "episodes.jsonl")
            lines = read_json_lines(meta / "tasks.jsonl")
            self.tasks = {line["task_index"]: line["task"] for line in lines}
        self.episodes = sorted(rows, key=lambda row: row["episode_index"])

    def count(self, split: str) -> int:
        return len(self.episodes)

    def read(self, split: str, ordinal: int) -> PlainEpisode:
        episode = self.episodes[ordinal]
        index = episode["episode_index"]
        table = pq.read_table(self.directory / self._data_file(episode))
        if "episode_index" in table.column_names:
            table = table.filter(pc.equal(table["episode_index"], index))
        if "frame_index" in table.column_names:
            table = table.sort_by("frame_index")
        columns = {}
        for name in table.column_names:
            values = table[name].to_pylist()
            if np.asarray(values[:1]).dtype.kind in "biuf":
                columns[name] = np.asarray(values)
        length, fps = table.num_rows, float(self.info["fps"])
        columns |= {new: columns[old] for old, new in (("next.reward", "reward"),) if old in columns}
        named = [text.encode() for text in episode.get("tasks") or []]
        texts = [named[0] if named else b""] * length
        if "task_index" in columns:
            texts = [self.tasks[int(number)].encode() for number in columns["task_index"].reshape(-1)]
        times = columns.get("timestamp", np.arange(length) / fps).reshape(-1)
        times = times - times[:1]  # some recorders begin their clock at the second frame

        @cache
        def pictures(key: str) -> list[np.ndarray] | None:
            file, start = self._video(episode, key)
            return None if file is None else _frames_at(file, start + times, fps)

        about = {"episode_index": index, "tasks": b"; ".join(named)}
        return PlainEpisode(length, columns, {"task": texts}, about, pictures)

    def _data_file(self, episode: dict[str, Any]) -> str:
        if self.is_v3:
            part = {"chunk_index": episode["data/chunk_index"], "file_index": episode["data/file_index"]}
            return self._named("data_path", **part)
        return self._named("data_path", **self._numbered(episode))

    def _video(self, episode: dict[str, Any], key: str) -> tuple[Path | None, float]:
        start, part = 0.0, self._numbered(episode)
        if self.is_v3:
            if episode.get(f"videos/{key}/file_index") is None:
                return None, 0.0
            part = {name: int(episode[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
            start = float(episode[f"videos/{key}/from_timestamp"])
        path = self.directory / self._named("video_path", video_key=key, **part)
        return (path if path.is_file() else None), start

    def _numbered(self, episode: dict[str, Any]) -> dict[str, Any]:
        index = episode["episode_index"]
        return {"episode_index": index, "episode_chunk": index // self.info.get("chunks_size", 1000)}

    def _named(self, template: str, **values: Any) -> str:
        """A path of info.json with its numbers; one that leads out of the folder is refused."""
        parts = {name: (lambda width, value=value: str(value).zfill(width)) for name, value in values.items()}
        name = re.sub(r"\{(\w+)(?::0(\d)d)?\}", lambda m: parts[m[1]](int(m[2] or 0)), self.info[template])
        inside(self.directory, name, any_letters=True)
        return name


def _frames_at(path: Path, times_T: np.ndarray, fps: float) -> list[np.ndarray]:
    """The frame nearest to each time, RGB; as many as there are within half a period, in order."""
    found: dict[int, tuple[float, np.ndarray]] = {}
    with open(path, "rb") as stream, av.open(stream, "r", format="mp4", options=LOCAL) as container:
        video = container.streams.video[0]
        if times_T[0] > 0 and video.time_base is not None:
            container.seek(int(times_T[0] / video.time_base), stream=video, backward=True)
        for frame in container.decode(video):
            if frame.time is None or frame.time < times_T[0] - 0.5 / fps:
                continue
            if frame.time > times_T[-1] + 0.5 / fps:
                break
            step = int(np.abs(times_T - frame.time).argmin())
            away = abs(float(times_T[step]) - frame.time)
            if away <= 0.5 / fps and (step not in found or away < found[step][0]):
                found[step] = away, frame.to_ndarray(format="rgb24")
    return [found[step][1] for step in sorted(found)]
