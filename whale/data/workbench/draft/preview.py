"""A few episodes of one dataset through its spec, as ingest would take them, kept in memory for whoever looks.

Shapes: T steps, A = 7.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from whale.common.errors import BadDataError, ConfigError
from whale.data.ingest.canonical.canonical import canonical_episode, kept_steps, wanted_keys
from whale.data.ingest.canonical.raw_columns import measured_opening
from whale.data.ingest.ingest import canonical_frames
from whale.data.ingest.quality.episode import inspect_episode
from whale.data.ingest.quality.gate import Evidence, judge
from whale.data.ingest.sources.source import Source
from whale.data.ingest.statistics import action_statistics
from whale.data.spec.episode import Episode, EpisodeError, RawEpisode, Rejected, episode_key
from whale.data.spec.spec import DatasetSpec
from whale.data.storage.images import JPEG_QUALITY, ImageError, decode

RESOLUTION, SHOWN = 128, 6


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
    """`report` as in quality.json, on these episodes only; `total`: how many train has."""

    total: int
    looks: list[Look]
    rejected: list[Rejected]
    report: dict[str, Any]


def preview(source: Source, spec: DatasetSpec, count: int, ingested: Collection[str] = ("primary",)) -> Preview:
    """The first `count` episodes of the train split. EpisodeError and Rejected become entries of `rejected`.

    ingested: the roles that ingest takes; the gate judges these, and looks at the others as it does there.

    ConfigError if the spec names no train split, or one that the source lacks.
    """
    evidence, looks, rejected, rows = Evidence(), list[Look](), list[Rejected](), list[dict[str, Any]]()
    for ordinal, raw in islice(_train(source, spec), count):
        made = raw if isinstance(raw, Rejected) else _look(raw, spec, ordinal)
        if isinstance(made, Rejected) or isinstance(raw, Rejected):
            rejected.append(made)  # type: ignore[arg-type]
            continue
        looks.append(made)
        frames = {role: each for role, each in made.episode.frames.items() if role in ingested}
        inspection = inspect_episode(raw, made.episode, frames, spec)
        row = evidence.add(inspection) | {"key": made.episode.key, "split": "train", "kept": True}
        accepted, refused = inspection.sorted_by(spec.episodes.accept)
        reason = {"reason": refused[0].detector} if refused else {}
        rows.append(row | {"content_sha256": str(ordinal), "accepted": accepted} | reason)
    actions = [look.episode.action[look.episode.action_valid] for look in looks]
    has_steps = any(map(len, actions))
    statistics = action_statistics(actions, spec.action.contract.action_mask(), len(looks)) if has_steps else None
    part = spec.source.slices()["train"]
    total = part.count(sum(shard.records for shard in source.splits[part.split]))
    return Preview(total, looks, rejected, judge(evidence, statistics, rows, spec))


def why_unusable(source: Source, spec: DatasetSpec, count: int) -> list[Rejected]:
    """Nothing if one of the first `count` episodes of train can be used; else why each can't. Raises as `preview`.

    BadDataError if there is no such episode.
    """
    rejected = []
    for ordinal, raw in islice(_train(source, spec), count):
        made = raw if isinstance(raw, Rejected) else _look(raw, spec, ordinal)
        if not isinstance(made, Rejected):
            return []
        rejected.append(made)
    if not rejected:
        file, found = source.directory, spec.source.splits["train"]
        raise BadDataError("no episode falls into train", file=file, place="source.splits.train", found=found)
    return rejected


def _train(source: Source, spec: DatasetSpec) -> Iterator[tuple[int, RawEpisode | Rejected]]:
    """(place in the source's split, episode) of what ingest would take for train, in order."""
    part = spec.source.slices().get("train")
    if part is None or part.split not in source.splits:
        raise ConfigError(
            "no such split", file=source.directory, place="source.splits.train", found=spec.source.splits.get("train"),
            expected=f"a part of {', '.join(source.splits)}",
        )  # fmt: skip
    shards = source.splits[part.split]
    start, stop = part.bounds(sum(shard.records for shard in shards))
    for index, shard in enumerate(shards):
        if shard.first_ordinal >= stop or shard.first_ordinal + shard.records <= start:
            continue
        for raw in source.read_shard(part.split, index, wanted_keys(spec, spec.cameras), hashed=False):
            ordinal = shard.first_ordinal + raw.record_index
            if start <= ordinal < stop and part.holds(ordinal):
                yield ordinal, raw


def _look(raw: RawEpisode, spec: DatasetSpec, ordinal: int) -> Look | Rejected:
    episode = canonical_episode(raw, spec, episode_key(spec.name, "train", ordinal), spec.cameras)
    if isinstance(episode, Rejected):
        return episode
    steps = np.unique(np.linspace(0, episode.num_steps - 1, SHOWN).round().astype(int))
    try:
        stored = {role: list(frames) for role, frames in episode.frames.items()}
        frames = {
            role: canonical_frames(each, spec.cameras[role], RESOLUTION, JPEG_QUALITY) for role, each in stored.items()
        }
        opening = np.full(raw.num_steps, np.nan) if spec.state is None else measured_opening(raw, spec.state)
    except (EpisodeError, ImageError) as error:
        return Rejected.of(raw, getattr(error, "reason", "decode_error"), str(error))
    return Look(
        episode=replace(episode, frames=frames), steps=steps,
        raw={role: [decode(images[t]) for t in steps] for role, images in stored.items()},
        canonical={role: [decode(images[t]) for t in steps] for role, images in frames.items()},
        opening=opening[kept_steps(raw, spec)],
    )  # fmt: skip


def gripper_events(command_T: np.ndarray) -> Sequence[int]:
    """Steps at which the command changes by more than half."""
    return (np.flatnonzero(np.abs(np.diff(command_T)) > 0.5) + 1).tolist()
