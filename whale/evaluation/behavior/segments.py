"""Segments of named behavior: which ones are taken of a split, and what a probe may read of each (P Fig. 15).

Shapes: S segments, T window, H history of the behavior model, R resolution, A = 7, K x M categories x classes of z.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch

from whale.common.errors import BadDataError, MissingInputError, RefusedError
from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import normalize_actions, pad_frames
from whale.data.segments.token_shards import ZSet
from whale.data.storage.episode_index import EpisodeRow
from whale.data.storage.shards import ShardSet
from whale.evaluation.measuring.rollouts.heldout import keyed, shrunk
from whale.models.behavior.behavior import BehaviorModel

PRIOR, POSTERIOR, SIMPLE, ACTIONS, PIXELS = "prior", "posterior", "simple", "actions", "pixels"
POOLED = 8  # pixels a side of what a probe sees of the first frame
LABELS = ("task", "policy")  # in the metadata of every episode


@dataclass(frozen=True)
class Behaviors:
    """S segments with who acted in them. `features`: {name: float64 [S, F]}; `left_out`: episodes with no whole one."""

    features: Mapping[str, np.ndarray]
    task: np.ndarray  # text [S]
    policy: np.ndarray  # text [S]
    episode: np.ndarray  # int64 [S]
    keys: list[str]  # <episode>+<first step>
    left_out: int

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Source:
    """One dataset's frames and z table, and the model that made the table."""

    shards: ShardSet
    z: ZSet
    behavior: BehaviorModel

    def __post_init__(self) -> None:
        if self.z.grid["shards"] != self.shards.digest:
            raise RefusedError(
                "z was made from other frame shards", file=self.z.directory, found=self.z.grid["shards"],
                expected=self.shards.digest, remedy="run embed_behavior on these shards",
            )  # fmt: skip

    @property
    def window(self) -> int:
        """T."""
        return self.z.segments.window


def read_behaviors(source: Source, split: str, segments: int, per_episode: int, seed: int) -> Behaviors:
    """At most `segments` whole segments of a split, at most `per_episode` of one episode.

    Pairs of task and policy take turns, so that each gives as many episodes as there are; which episodes, and which
    segments of them, is drawn by seed, dataset, split and episode. Segments share no step: they are of phase 0.
    BadDataError for a split without a whole segment, or an episode that does not name its task and policy.
    """
    found: list[tuple[EpisodeRow, np.ndarray, dict[str, np.ndarray]]] = []
    left_out = 0
    drawn_by = f"{seed}|{source.shards.name}|{split}"
    z_rows = {row.key: row for row in source.z.episodes(split)}
    for row in _in_turn(source.shards, split, drawn_by):
        if len(found) == max(1, segments // per_episode):
            break
        starts = _whole(source, row)
        if not len(starts):
            left_out += 1
            continue
        if row.key not in z_rows:
            raise MissingInputError("an episode without z", file=source.z.directory, place=row.key,
                                    remedy="run embed_behavior on these shards")  # fmt: skip
        chosen = np.sort(keyed(f"{drawn_by}|{row.key}").permutation(starts)[:per_episode])
        found.append((row, chosen, _features(source, row, chosen, source.z.read(z_rows[row.key]))))
    if not found:
        raise BadDataError(
            "a split has no whole segment", file=source.shards.directory, place=f"split {split}",
            found=f"{len(source.shards.episodes(split))} episodes",
            expected=f"episodes of more than {source.window} frames with valid actions", remedy="choose another split",
        )  # fmt: skip
    return _joined(sorted(found, key=lambda each: each[0].key), left_out)


def _joined(found: list[tuple[EpisodeRow, np.ndarray, dict[str, np.ndarray]]], left_out: int) -> Behaviors:
    counts = [len(starts) for _, starts, _ in found]
    task, policy = ([_named(row, label) for row, _, _ in found] for label in LABELS)
    return Behaviors(
        {name: np.concatenate([features[name] for _, _, features in found]) for name in found[0][2]},
        np.repeat(task, counts), np.repeat(policy, counts), np.repeat(np.arange(len(found)), counts),
        [f"{row.key}+{start}" for row, starts, _ in found for start in starts], left_out,
    )  # fmt: skip


def _in_turn(shards: ShardSet, split: str, drawn_by: str) -> Iterator[EpisodeRow]:
    """Every episode once: the first of each pair of task and policy, then the second of each, ..."""
    pairs: dict[tuple[str, ...], list[EpisodeRow]] = {}
    for row in shards.episodes(split):
        pairs.setdefault(tuple(_named(row, label) for label in LABELS), []).append(row)
    orders = []
    for pair in sorted(pairs):
        order = keyed(f"{drawn_by}|{'|'.join(pair)}").permutation(len(pairs[pair]))
        orders.append([pairs[pair][place] for place in order])
    for turn in zip_longest(*orders):
        yield from (row for row in turn if row is not None)


def _named(row: EpisodeRow, label: str) -> str:
    name = row.metadata.get(label)
    if not name:
        raise BadDataError(
            f"an episode does not say its {label}", file=row.shard, place=row.key, found=sorted(row.metadata),
            expected=f"metadata with {' and '.join(LABELS)}", remedy="take the dataset out of evaluate_behavior",
        )  # fmt: skip
    return str(name)


def _whole(source: Source, row: EpisodeRow) -> np.ndarray:
    """Starts of the segments of phase 0 that have T + 1 frames and T valid actions."""
    valid = source.shards.read_arrays(row, ("action_valid",))["action_valid"]
    starts = np.arange(0, row.num_steps - source.window, source.window)
    return starts[np.array([valid[start : start + source.window].all() for start in starts], bool)]


def _features(
    source: Source, row: EpisodeRow, starts: np.ndarray, stored: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """{name: float64 [S, F]} of segments of one episode; z as its K x M probabilities at the segment's last step."""
    places = {int(start): place for place, start in enumerate(stored["starts"])}
    if len(stored["z"]) != len(places) or stored["z"].shape[1] != source.window:
        raise BadDataError("z has another number of segments than the episode", file=source.z.directory, place=row.key,
                           found=stored["z"].shape[:2], expected=(len(places), source.window))  # fmt: skip
    log_probs_SKM = np.stack([stored["z"][places[int(start)], -1] for start in starts]).astype(np.float64)
    arrays = source.shards.read_arrays(row, ("action", "action_valid"))
    normalizer = ActionNormalizer.from_statistics(source.shards.statistics)
    actions_FA = normalize_actions(normalizer.normalize, arrays["action"], arrays["action_valid"])
    first = np.concatenate([source.shards.read_frames(row, int(start), int(start) + 1) for start in starts])
    pixels = shrunk(first, POOLED).reshape(len(starts), -1) / 255
    of_each = [actions_FA[start : start + source.window] for start in starts]
    actions = np.stack([np.concatenate([each.mean(axis=0), each.std(axis=0), each[-1]]) for each in of_each]).astype(
        np.float64
    )
    return {
        PRIOR: np.exp(log_probs_SKM).reshape(len(starts), -1),
        POSTERIOR: _posterior(source, row, starts, actions_FA),
        ACTIONS: actions,
        PIXELS: pixels,
        SIMPLE: np.concatenate([actions, pixels], axis=1),
    }


@torch.inference_mode()
def _posterior(source: Source, row: EpisodeRow, starts: np.ndarray, actions_FA: np.ndarray) -> np.ndarray:
    """float64 [S, K M]: q(z | the steps up to the segment's last one), as far back as the model was trained on."""
    behavior, history = source.behavior, source.behavior.config.memory or source.window
    frames, actions, num_steps = [], [], []
    for end in (int(start) + source.window for start in starts):
        begin = max(0, end - history)
        frames.append(pad_frames(source.shards.read_frames(row, begin, end), history))
        actions.append(np.zeros((history, actions_FA.shape[1]), np.float32))
        actions[-1][: end - begin] = actions_FA[begin:end]
        num_steps.append(end - begin)
    log_probs = behavior.posterior_log_probs(
        behavior.pixels(np.stack(frames)), behavior.placed(np.stack(actions)), behavior.placed(np.array(num_steps))
    )
    return log_probs.double().exp().flatten(1).cpu().numpy()
