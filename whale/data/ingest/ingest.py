"""Ingest: one dataset's raw episodes and its spec -> shards, index, statistics, contract, quarantine, manifest.

The unit of work is one source file: `process_source_shard` reads it, writes its shards, its rows of the index and,
last, a fragment that says the unit is whole; a rerun skips such units. `finish` joins the fragments. Who runs the units
(Beam, a loop, how many workers) can't change a byte, because every output file belongs to exactly one source file. A
unit holds one episode, one open shard per split and the index rows of one source file, however large the dataset is.
Law: read = kept + dropped.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.files import write_atomically
from whale.common.json_files import read_json, write_json
from whale.data.ingest.canonical.canonical import canonical_episode, wanted_keys
from whale.data.ingest.quality.episode import inspect_episode
from whale.data.ingest.quality.gate import Evidence
from whale.data.ingest.sources.location import Location
from whale.data.ingest.sources.source import digest_of
from whale.data.ingest.tar_parts import TarParts
from whale.data.ingest.tasks import IngestConfig, IngestTask, empty_splits, plan_tasks, source_of
from whale.data.spec.episode import BAD_REASONS, Episode, EpisodeError, RawEpisode, Rejected, episode_key
from whale.data.spec.spec import Camera
from whale.data.storage.images import ImageError, canonical_frame
from whale.data.storage.manifest import fragment_schema, index_columns, write_table
from whale.data.storage.shards import STEP_ARRAYS, array_bytes

__all__ = ["IngestConfig", "IngestTask", "empty_splits", "plan_tasks", "process_source_shard"]

# What the gate compares between episodes at the end: the only part of an index row that stays in memory.
SIGN_SECONDS = 1.0
COMPARED = ("key", "split", "kept", "reason", "content_sha256", "agreement", "warm", "accepted")


def process_source_shard(task: IngestTask) -> None:
    """Read one source file; write its shards, index rows, valid train actions and its fragment below `work`."""
    if (done := read_fragment(task)) is not None and not _is_broken(done):
        return
    clear_leftovers(task)
    rows: list[dict[str, Any]] = []
    actions: list[np.ndarray] = []
    evidence = Evidence()
    source = source_of(task)
    reader = source.read_shard(task.source_split, task.index, wanted_keys(task.spec, task.spec.cameras))
    sign = _SignOfLife(task)
    with TarParts(Path(task.work), task.spec.name, task.file_number, task.config.shard_bytes) as tars:
        for raw in reader:
            split = task.split_of(task.shard.first_ordinal + raw.record_index)
            if split is not None:
                rows.append(_process_record(raw, task, split, tars, actions, evidence))
            sign.give(raw.record_index + 1)
    location = Location(Path(task.directory), {file.path: file for file in task.expected})
    for file, (_, sha256) in reader.files.items():
        location.check_sha256(file, sha256)
    size, sha256 = digest_of(reader.files)
    origin = {"file": task.shard.file, "bytes": size, "sha256": sha256, "records": task.shard.records}
    joined = np.concatenate([np.zeros((0, 7), np.float32), *actions])
    write_atomically(task.train_actions, array_bytes(joined))
    write_table(task.rows, rows, fragment_schema(task.config.cameras))
    fragment = {"source": origin, "splits": sorted({row["split"] for row in rows}), "shards": tars.entries}
    compared = [{name: row.get(name) for name in COMPARED} for row in rows]
    write_json(task.fragment, fragment | {"quality": evidence.to_json(), "compared": compared})


def records_done(task: IngestTask) -> int:
    """How far the task is, for whoever waits: all records of a finished unit, else what it last said."""
    if task.fragment.is_file():
        return task.shard.records
    try:
        return min(int(task.progress.read_text() or 0), task.shard.records)
    except (OSError, ValueError):
        return 0


class _SignOfLife:
    """A number in a file of the working folder, now and then: one source file may take hours."""

    def __init__(self, task: IngestTask):
        self.path, self._said = task.progress, time.monotonic()

    def give(self, records: int) -> None:
        now = time.monotonic()
        if now - self._said >= SIGN_SECONDS:
            self._said = now
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(str(records))


def _is_broken(fragment: Mapping[str, Any]) -> bool:
    """A unit with broken episodes is read again: somebody may have repaired the file."""
    return any(row.get("reason") in BAD_REASONS for row in fragment["compared"])


def clear_leftovers(task: IngestTask) -> None:
    """Remove what a killed writer of this unit left under temporary names."""
    task.progress.unlink(missing_ok=True)
    for pattern in (f"*/.*-{task.file_number:05d}-*.tar.tmp-*", f"fragments/.{task.file_number:05d}.*.tmp-*"):
        for path in Path(task.work).glob(pattern):
            path.unlink(missing_ok=True)


def read_fragment(task: IngestTask) -> dict[str, Any] | None:
    """The fragment of a finished unit whose shards are still there, else None."""
    if not all(path.is_file() for path in (task.fragment, task.train_actions, task.rows)):
        return None
    fragment = read_json(task.fragment)
    paths = [(Path(task.work) / shard["file"], shard["bytes"]) for shard in fragment["shards"]]
    return fragment if all(path.is_file() and path.stat().st_size == size for path, size in paths) else None


def sample_members(episode: Episode) -> dict[str, bytes]:
    """Suffix -> bytes of one tar sample; frames must be canonical JPEG already."""
    members = {
        f"{role}.{step:06d}.jpg": jpeg for role, jpegs in episode.frames.items() for step, jpeg in enumerate(jpegs)
    }
    for name in STEP_ARRAYS:
        array = getattr(episode, name)
        if array is not None:
            members[f"{name}.npy"] = array_bytes(array)
    about = {"key": episode.key, "language": episode.language, "num_steps": episode.num_steps}
    about |= {"control_hz": episode.control_hz, "metadata": episode.metadata}
    members["episode.json"] = json.dumps(about, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return members


def _process_record(
    raw: RawEpisode | Rejected,
    task: IngestTask,
    split: str,
    tars: TarParts,
    actions: list[np.ndarray],
    evidence: Evidence,
) -> dict[str, Any]:
    """One row of the index; a kept episode goes to its tar."""
    key = episode_key(task.spec.name, split, task.shard.first_ordinal + raw.record_index)
    row = {"key": key, "split": split, "source_file": raw.source_file, "record_index": raw.record_index}
    row |= {"byte_offset": raw.byte_offset, "payload_sha256": raw.payload_sha256, "steps_in": raw.num_steps}
    outcome = raw if isinstance(raw, Rejected) else _canonical(raw, task, key)
    inspected: dict[str, Any] = {}
    if not isinstance(outcome, Rejected) and not isinstance(raw, Rejected):
        outcome, inspected = _inspect(raw, outcome, task, evidence)
    if isinstance(outcome, Rejected):
        dropped = {"kept": False, "reason": outcome.reason, "detail": outcome.detail}
        return row | inspected | dropped | {"steps_out": 0, "valid_steps": 0}
    file, members = tars.write(split, key, sample_members(outcome), outcome.num_steps)
    if split == "train":
        actions.append(outcome.action[outcome.action_valid])
    arrays = [member for member in members if not member.name.endswith(".jpg")]
    frames = {
        role: [member for member in members if member.name.startswith(f"{key}.{role}.")] for role in outcome.frames
    }
    return row | inspected | index_columns(arrays, frames) | {
        "kept": True,
        "steps_out": outcome.num_steps, "valid_steps": int(outcome.action_valid.sum()), "shard": file,
        "member_offset": members[0].offset - 512, "language": outcome.language,
        "action_abs_max": np.abs(outcome.action).max(axis=0).astype(float).tolist(),
        "metadata": json.dumps(outcome.metadata, sort_keys=True, separators=(",", ":"), allow_nan=False),
    }  # fmt: skip


def _inspect(
    raw: RawEpisode, episode: Episode, task: IngestTask, evidence: Evidence
) -> tuple[Episode | Rejected, dict[str, Any]]:
    """The episode, or why the gate refuses it; and what is compared with other episodes at the end.

    Policy fail judges all that could be read, so that one run shows all there is; quarantine judges what is left.
    """
    inspection = inspect_episode(raw, episode, episode.frames, task.spec)
    accepted, refused = inspection.sorted_by(task.spec.episodes.accept)
    if refused:
        rejected = Rejected.of(raw, refused[0].detector, "; ".join(fault.detail for fault in refused))
        if task.config.quality.policy == "quarantine":
            return rejected, {}
    digest = hashlib.sha256(episode.frames["primary"][0] + episode.action.tobytes()).hexdigest()
    compared = evidence.add(inspection) | {"content_sha256": digest, "accepted": accepted}
    return (rejected if refused else episode), compared


def _canonical(raw: RawEpisode, task: IngestTask, key: str) -> Episode | Rejected:
    if key in task.spec.episodes.exclude:
        return Rejected.of(raw, "excluded_by_hand", task.spec.episodes.exclude[key])
    episode = canonical_episode(raw, task.spec, key, task.config.cameras)
    if isinstance(episode, Rejected):
        return episode
    try:
        frames = {
            role: canonical_frames(images, task.spec.cameras[role], task.config.resolution, task.config.jpeg_quality)
            for role, images in episode.frames.items()
        }
    except EpisodeError as error:
        return Rejected.of(raw, error.reason, str(error))
    return Episode(**{**vars(episode), "frames": frames})


def canonical_frames(images: Sequence[bytes], camera: Camera, resolution: int, quality: int) -> list[bytes]:
    """JPEG of `quality`, square; EpisodeError names the step of a frame that cannot be had."""
    convert = partial(canonical_frame, hw=camera.hw, channels=camera.channels, rotate=camera.rotate,
                      flip=camera.flip)  # fmt: skip
    frames = []
    for step, data in enumerate(images):
        try:
            frames.append(convert(data, resolution=resolution, quality=quality))
        except ImageError as error:
            detail = f"'{camera.key}' step {step}: {error.what} (found {error.found}, expected {error.expected})"
            raise EpisodeError(error.reason, detail) from None
    return frames
