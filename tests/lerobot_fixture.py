"""Tiny LeRobot datasets of all three versions, written with pyarrow and PyAV: what a recorder leaves on disk."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from whale.data.spec.spec import DatasetSpec

FPS, SIZE = 10, 32
CAMERA = "observation.images.top"
TASKS = ["push the plate", "lift the cup"]


def rows(seed: int, length: int) -> dict[str, np.ndarray]:
    """action (T, 7) and the state (T, 7) it starts from."""
    rng = np.random.default_rng(seed)
    action = rng.uniform(-0.1, 0.1, (length, 7)).astype(np.float32)
    action[:, 6] = rng.integers(0, 2, length)
    pose = np.cumsum(action[:, :6], axis=0) - action[:, :6]
    return {"action": action, "observation.state": np.concatenate([pose, np.roll(action[:, 6:], 1, axis=0)], axis=1)}


def picture(episode: int, step: int) -> np.ndarray:
    """A flat colour that says which episode and step it is, up to the loss of the codec."""
    return np.full((SIZE, SIZE, 3), [40 + 50 * episode, 30 + 6 * step, 90], np.uint8)


def write_video(path: Path, frames: list[np.ndarray], times: list[int] | None = None) -> None:
    """`times`: when each frame is shown, in periods; one after the other if not given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = SIZE, SIZE, "yuv420p", 4_000_000
        for image, time in zip(frames, times or range(len(frames)), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def table(episode: int, length: int, first: int) -> pa.Table:
    columns = {name: pa.array(list(values), pa.list_(pa.float32())) for name, values in rows(episode, length).items()}
    steps = np.arange(length)
    columns |= {"timestamp": pa.array(steps / FPS, pa.float32()), "frame_index": pa.array(steps)}
    columns |= {"episode_index": pa.array(np.full(length, episode)), "index": pa.array(first + steps)}
    columns |= {"task_index": pa.array(np.full(length, episode % 2)), "next.done": pa.array(steps == length - 1)}
    return pa.table(columns)


def info(version: str, data_path: str, video_path: str) -> dict:
    image = {"dtype": "video", "shape": [SIZE, SIZE, 3]}
    features = {CAMERA: image, "action": {"dtype": "float32", "shape": [7]}}
    claims = {"total_episodes": 99, "splits": {"train": "0:99"}}
    paths = {"data_path": data_path, "video_path": video_path}
    return {"codebase_version": version, "fps": FPS, "chunks_size": 1000, "features": features, **paths, **claims}


def write_v2(root: Path, lengths: list[int], version: str = "v2.1") -> Path:
    (root / "meta").mkdir(parents=True)
    about = info(version, "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
                 "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4")  # fmt: skip
    (root / "meta" / "info.json").write_text(json.dumps(about))
    tasks = [json.dumps({"task_index": index, "task": task}) for index, task in enumerate(TASKS)]
    (root / "meta" / "tasks.jsonl").write_text("\n".join(tasks))
    entries, first = [], 0
    for episode, length in enumerate(lengths):
        path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(episode, length, first), path)
        frames = [picture(episode, step) for step in range(length)]
        write_video(root / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4", frames)
        entries.append({"episode_index": episode, "tasks": [TASKS[episode % 2]], "length": length})
        first += length
    (root / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, entries)))
    return root


def write_v3(root: Path, files: list[list[int]], changes: dict[int, dict] | None = None) -> Path:
    """`files[f]`: lengths of the episodes in file f; `changes`: of meta/'s rows, by episode."""
    (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    about = info("v3.0", "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
                 "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")  # fmt: skip
    (root / "meta" / "info.json").write_text(json.dumps(about))
    pq.write_table(pa.table({"task_index": [0, 1], "__index_level_0__": TASKS}), root / "meta" / "tasks.parquet")
    entries, episode, first = [], 0, 0
    for number, lengths in enumerate(files):
        tables, frames = [], []
        for length in lengths:
            start = len(frames) / FPS
            tables.append(table(episode, length, first))
            frames += [picture(episode, step) for step in range(length)]
            entries.append({
                "episode_index": episode, "length": length, "data/chunk_index": 0, "data/file_index": number,
                "dataset_from_index": first, "dataset_to_index": first + length,
                f"videos/{CAMERA}/chunk_index": 0, f"videos/{CAMERA}/file_index": number,
                f"videos/{CAMERA}/from_timestamp": start, f"videos/{CAMERA}/to_timestamp": len(frames) / FPS,
            } | (changes or {}).get(episode, {}))  # fmt: skip
            episode, first = episode + 1, first + length
        path = root / f"data/chunk-000/file-{number:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables(tables), path)
        write_video(root / f"videos/{CAMERA}/chunk-000/file-{number:03d}.mp4", frames)
    pq.write_table(pa.Table.from_pylist(entries), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    return root


def lerobot_spec(version: str = "2.1.0", **changes) -> DatasetSpec:
    text = f"""
name: tiny
source: {{format: lerobot, dataset: tiny, version: "{version}", splits: {{train: "all[:60%]", val: "all[60%:]"}}}}
robot: {{name: Tiny, arms: 1, control_hz: {FPS}.0}}
cameras:
  primary: {{key: {CAMERA}, channels: rgb, hw: [{SIZE}, {SIZE}], view: fixed, rotate: 0, optional: false}}
language: {{key: task, encoding: utf8, scope: step, kind: natural}}
state:
  pose: {{key: observation.state, slice: [0, 6], form: xyz_rpy, units: [m, rad]}}
  gripper: {{key: observation.state, slice: [6, 7], rises_when: open}}
action:
  translation: {{key: action, slice: [0, 3], unit: m, ops: []}}
  rotation: {{key: action, slice: [3, 6], unit: rad, ops: []}}
  gripper: {{key: action, slice: [6, 7], raw: absolute, ops: []}}
  contract: {{frame: base, form: delta, live: xyzrpwg, limit: null, retraceable: true, last_step: undefined}}
episodes: {{filters: [], edits: [], min_steps: 2}}
licence: {{spdx: Apache-2.0, url: "", evidence: made here, citation: none}}
expect: {{episodes: null, steps: null, source: test}}
errata: []
"""
    return DatasetSpec.parse(yaml.safe_load(text) | changes, file="data_specs/tiny.yaml")
