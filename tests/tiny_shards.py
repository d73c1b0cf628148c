"""Tiny ingested datasets for tests: real tars, index and manifest, coloured squares for frames."""

import json
from pathlib import Path

import numpy as np
import simplejpeg

from whale.common.json_files import write_json
from whale.data.spec.episode import episode_key
from whale.data.storage.files import write_listing
from whale.data.storage.manifest import (
    FORMAT_VERSION,
    Count,
    Manifest,
    episode_schema,
    file_entry,
    index_columns,
    write_table,
)
from whale.data.storage.shards import TarWriter, array_bytes

SIZE = 16


def write_tiny_shards(
    directory: Path, name: str, lengths: list[int], per_shard: int = 2, seed: int = 0, about: list[dict] | None = None,
    green: int = 20,
) -> Path:  # fmt: skip
    """Episodes of `lengths` frames in split train, `per_shard` per tar; the same arguments give the same bytes.

    about: metadata of each; then step s of episode e earns s + 100 e. Episode e is `green` times e green.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    frames = [[_square(step, green * ordinal) for step in range(length)] for ordinal, length in enumerate(lengths)]
    actions = [_action(rng, length) for length in lengths]
    return write_encoded_shards(directory, name, frames, actions, SIZE, per_shard, about)


def write_encoded_shards(
    directory: Path, name: str, frames: list[list[bytes]], actions: list[np.ndarray], size: int, per_shard: int = 2,
    about: list[dict] | None = None, rewards: list[np.ndarray] | None = None,
) -> Path:  # fmt: skip
    """Episodes of JPEG frames of `size` x `size`, actions (T, 7) and, if given, rewards (T,), in split train."""
    rows, shards = [], []
    for part, first in enumerate(range(0, len(frames), per_shard)):
        chosen = range(first, min(first + per_shard, len(frames)))
        file = f"train/{name}-train-00000-{part:03d}.tar"
        with TarWriter(directory, file) as tar:
            told = about or [None] * len(frames)
            for ordinal in chosen:
                extra = {} if rewards is None else {"reward.npy": array_bytes(rewards[ordinal])}
                episode = (frames[ordinal], actions[ordinal], file, told[ordinal], extra)
                rows.append(_write_episode(tar, name, ordinal, *episode))
        keys = [episode_key(name, "train", ordinal) for ordinal in chosen]
        steps = sum(len(frames[ordinal]) for ordinal in chosen)
        digest = {"bytes": tar.info.bytes, "sha256": tar.info.sha256}
        shards.append({"file": file, "split": "train", "episodes": len(chosen), "steps": steps, **digest})
        shards[-1] |= {"first_key": keys[0], "last_key": keys[-1]}
    total = sum(map(len, frames))
    write_table(directory / "episodes.parquet", rows, episode_schema(["primary"]))
    write_json(directory / "statistics.json", _statistics(total, len(frames)))
    write_json(directory / "contract.json", {"form": "delta", "retraceable": True})
    _write_manifest(directory, name, shards, Count(episodes=len(frames), steps=total), size)
    return directory


def encode(frames_STHWC):
    """A causal stand-in for a tokenizer: each token depends on its frame and on the segment's first one."""
    means = frames_STHWC.reshape(*frames_STHWC.shape[:2], 4, -1).mean(-1)
    return (means * 7 + means[:, :1]).astype(np.uint16)


def _action(rng, length: int) -> np.ndarray:
    action = rng.uniform(-1, 1, (length, 7)).astype(np.float32)
    action[:, 6] = action[:, 6] > 0
    return action


def _square(step: int, green: int) -> bytes:
    frame = np.full((SIZE, SIZE, 3), (10 * step % 256, green % 256, 128), np.uint8)
    return simplejpeg.encode_jpeg(frame, quality=95, colorsubsampling="444")


def _write_episode(
    tar, name: str, ordinal: int, jpegs: list[bytes], action: np.ndarray, file: str, about: dict | None, extra: dict
) -> dict:
    key, length = episode_key(name, "train", ordinal), len(jpegs)
    arrays = {"action.npy": array_bytes(action), "action_valid.npy": array_bytes(np.ones(length, bool))} | extra
    if about is not None and "reward.npy" not in extra:
        arrays["reward.npy"] = array_bytes((np.arange(length) + 100 * ordinal).astype(np.float32))
    frames = {f"primary.{step:06d}.jpg": jpeg for step, jpeg in enumerate(jpegs)}
    members = tar.write_sample(key, arrays | frames)
    columns = index_columns(
        [member for member in members if member.name.endswith(".npy")],
        {"primary": [member for member in members if member.name.endswith(".jpg")]},
    )
    known = {
        "key": key,
        "split": "train",
        "kept": True,
        "shard": file,
        "language": "",
        "metadata": json.dumps(about or {}),
    }
    steps = {"steps_in": length, "steps_out": length, "valid_steps": length, "content_sha256": "0" * 64}
    return known | steps | columns


def _statistics(num_transitions: int, num_trajectories: int) -> dict:
    names = ("count", "mean", "std", "min", "max", "q01", "q10", "q50", "q90", "q99", "zero_share")
    values = {"min": -1.0, "q01": -0.9, "q99": 0.9, "max": 1.0}
    action = {name: [values.get(name, 0.0)] * 7 for name in names} | {"mask": [True] * 7}
    return {"action": action, "num_transitions": num_transitions, "num_trajectories": num_trajectories}


def _write_manifest(directory: Path, name: str, shards: list[dict], kept: Count, size: int) -> None:
    listed = ("episodes.parquet", "statistics.json", "contract.json")
    values = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "spec_digest": "0" * 64,
        "control_hz": 5.0,
        "images": {"resolution": size, "mode": "stretch", "jpeg_quality": 95, "encoder": "test", "roles": ["primary"]},
        "sources": [],
        "shards": shards,
        "files": {file: file_entry(directory / file).model_dump() for file in listed},
        "read": kept.model_dump(),
        "kept": {"train": kept.model_dump()},
        "dropped": {},
    }
    manifest = Manifest.parse(values, file=directory / "manifest.json")
    write_listing(directory / "manifest.json", json.loads(manifest.model_dump_json()))
