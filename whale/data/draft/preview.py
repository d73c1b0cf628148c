"""A few episodes of one dataset through its spec, as ingest would take them, kept in memory for whoever looks.

Shapes: T steps, A = 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from whale.data.canonical import canonical_episode, kept_steps, wanted_keys
from whale.data.episode import Episode, EpisodeError, RawEpisode, Rejected, episode_key
from whale.data.quality.episode import inspect_episode
from whale.data.quality.gate import Evidence, judge
from whale.data.raw_columns import measured_opening
from whale.data.sources.source import Source
from whale.data.spec import DatasetSpec
from whale.data.statistics import action_statistics
from whale.data.storage.images import ImageError, canonical_frame, decode

RESOLUTION, QUALITY, SHOWN = 128, 95, 6


@dataclass(frozen=True)
class Look:
    """One kept episode. raw, canonical: role -> `SHOWN` decoded frames at `steps`; opening: (T,), NaN if unmeasured."""

    episode: Episode
    steps: np.ndarray
    raw: dict[str, list[np.ndarray]]
    canonical: dict[str, list[np.ndarray]]
    opening: np.ndarray


@dataclass(frozen=True)
class Preview:
    """`report` as in quality.json, on these episodes only."""

    looks: list[Look]
    rejected: list[Rejected]
    report: dict[str, Any]


def preview(source: Source, spec: DatasetSpec, count: int) -> Preview:
    """The first `count` episodes of the train split. EpisodeError and Rejected become entries of `rejected`."""
    part = spec.source.slices()["train"]
    evidence, looks, rejected, rows = Evidence(), list[Look](), list[Rejected](), list[dict[str, Any]]()
    for number, raw in enumerate(islice(_raw(source, spec, part.split), count)):
        made = raw if isinstance(raw, Rejected) else _look(raw, spec, number)
        if isinstance(made, Rejected) or isinstance(raw, Rejected):
            rejected.append(made)  # type: ignore[arg-type]
            continue
        looks.append(made)
        inspection = inspect_episode(raw, made.episode, made.episode.frames, spec)
        row = evidence.add(inspection) | {"key": made.episode.key, "split": "train", "kept": True}
        faults = [(fault.detector, fault.detail) for fault in inspection.faults]
        rows.append(row | {"content_sha256": str(number), "accepted": faults})
    actions = [look.episode.action[look.episode.action_valid] for look in looks]
    has_steps = any(map(len, actions))
    statistics = action_statistics(actions, spec.action.contract.action_mask(), len(looks)) if has_steps else None
    return Preview(looks, rejected, judge(evidence, statistics, rows, spec))


def _raw(source: Source, spec: DatasetSpec, split: str):
    for index in range(len(source.splits[split])):
        yield from source.read_shard(split, index, wanted_keys(spec, spec.cameras))


def _look(raw: RawEpisode, spec: DatasetSpec, number: int) -> Look | Rejected:
    episode = canonical_episode(raw, spec, episode_key(spec.name, "train", number), spec.cameras)
    if isinstance(episode, Rejected):
        return episode
    steps = np.unique(np.linspace(0, episode.num_steps - 1, SHOWN).round().astype(int))
    try:
        stored = {role: list(frames) for role, frames in episode.frames.items()}
        frames = {role: [_frame(data, spec, role) for data in images] for role, images in stored.items()}
        opening = np.full(raw.num_steps, np.nan) if spec.state is None else measured_opening(raw, spec.state)
    except (EpisodeError, ImageError) as error:
        return Rejected.of(raw, getattr(error, "reason", "decode_error"), str(error))
    return Look(
        episode=replace(episode, frames=frames), steps=steps,
        raw={role: [decode(images[t]) for t in steps] for role, images in stored.items()},
        canonical={role: [decode(images[t]) for t in steps] for role, images in frames.items()},
        opening=opening[kept_steps(raw, spec)],
    )  # fmt: skip


def _frame(data: bytes, spec: DatasetSpec, role: str) -> bytes:
    camera = spec.cameras[role]
    return canonical_frame(
        data, resolution=RESOLUTION, quality=QUALITY, hw=camera.hw, channels=camera.channels, rotate=camera.rotate
    )


def gripper_events(command_T: np.ndarray) -> Sequence[int]:
    """Steps at which the command changes by more than half."""
    return (np.flatnonzero(np.abs(np.diff(command_T)) > 0.5) + 1).tolist()
