"""Recorded episodes of one task as what a policy learns from: what it saw, did, earned and saw next.

Shapes: E episodes, M frames of all of them one after the other, P components of a frame, S frames seen, N transitions,
R resolution, A actions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whale.common.errors import BadDataError
from whale.data.segments.actions import ActionNormalizer
from whale.data.storage.shards import EpisodeRow, ShardSet


@dataclass(frozen=True)
class Demonstrations:
    """`first` [E] and `length` [E] say where an episode lies; `actions` raw, `valid`, `rewards` are per frame: the
    action taken at it. `value` [E]: the mean of what its valid actions earned."""

    shards: ShardSet
    rows: Sequence[EpisodeRow]
    first: np.ndarray
    length: np.ndarray
    actions: np.ndarray
    valid: np.ndarray
    rewards: np.ndarray
    value: np.ndarray
    success: np.ndarray

    @classmethod
    def read(cls, shards: ShardSet, split: str, task: str) -> "Demonstrations":
        """Every episode of the task. BadDataError without one, or where rewards are not recorded."""
        rows = [row for row in shards.episodes(split) if row.metadata.get("task") == task]
        if not rows:
            known = sorted({str(row.metadata.get("task")) for row in shards.episodes(split)})
            raise BadDataError("no episode of this task", file=shards.directory, place=f"split {split}", found=task,
                               expected=f"one of: {', '.join(known)}")  # fmt: skip
        arrays = [shards.read_arrays(row, ("action", "action_valid", "reward")) for row in rows]
        if missing := [row.key for row, each in zip(rows, arrays, strict=True) if "reward" not in each]:
            raise BadDataError("no reward is recorded", file=shards.directory, place=missing[0])
        valid = [each["action_valid"].astype(bool) & (np.arange(len(each["action_valid"])) < row.num_steps - 1)
                 for row, each in zip(rows, arrays, strict=True)]  # fmt: skip
        rewards = [each["reward"].astype(np.float32) for each in arrays]
        length = np.array([row.num_steps for row in rows])
        value = [float(r[v].mean()) if v.any() else -math.inf for r, v in zip(rewards, valid, strict=True)]
        return cls(
            shards, rows, np.cumsum(length) - length, length,
            np.concatenate([each["action"] for each in arrays]).astype(np.float32), np.concatenate(valid),
            np.concatenate(rewards), np.array(value),
            np.array([bool(row.metadata.get("success", False)) for row in rows]),
        )  # fmt: skip

    def frames(self, episode: int, start: int, stop: int) -> np.ndarray:
        """uint8 [stop - start, R, R, 3]."""
        return self.shards.read_frames(self.rows[episode], start, stop)

    def spread(self, most: int) -> np.ndarray:
        """At most so many frames uint8 [<= most, R, R, 3], evenly over all episodes."""
        chosen = np.unique(np.linspace(0, self.length.sum() - 1, min(most, int(self.length.sum()))).round().astype(int))
        episode = np.searchsorted(self.first, chosen, side="right") - 1
        return np.concatenate([self.frames(int(e), int(m - self.first[e]), int(m - self.first[e]) + 1)
                               for e, m in zip(episode, chosen, strict=True)])  # fmt: skip

    def histories(self, context: int) -> np.ndarray:
        """int [H, 2], (episode, first frame) of every `context` frames with valid actions between them."""
        found = []
        for episode, (first, length) in enumerate(zip(self.first, self.length, strict=True)):
            valid = self.valid[first : first + length]
            found += [(episode, start) for start in range(length - context + 1)
                      if valid[start : start + context - 1].all()]  # fmt: skip
        return np.array(found, np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class Transitions:
    """`seen` [N, S * P], `action` [N, A] normalised, `reward` [N], `following` [N, S * P]; `episode` [N]."""

    seen: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    following: np.ndarray
    episode: np.ndarray

    def __len__(self) -> int:
        return len(self.seen)

    def of(self, episodes: np.ndarray) -> np.ndarray:
        """Numbers of the transitions of these episodes."""
        return np.flatnonzero(np.isin(self.episode, episodes))


def transitions(
    demonstrations: Demonstrations, projected_MP: np.ndarray, frames: int, normalizer: ActionNormalizer
) -> Transitions:
    """Every valid action, with the `frames` frames up to it; before an episode's first frame that one is repeated."""
    episode_M = np.repeat(np.arange(len(demonstrations.first)), demonstrations.length)
    first_M = demonstrations.first[episode_M]
    at = np.flatnonzero(demonstrations.valid)

    def seen(now: np.ndarray) -> np.ndarray:
        back = [np.maximum(now - ago, first_M[now]) for ago in range(frames - 1, -1, -1)]
        return np.concatenate([projected_MP[each] for each in back], axis=1)

    action = normalizer.normalize(demonstrations.actions[at])
    return Transitions(seen(at), action, demonstrations.rewards[at], seen(at + 1), episode_M[at])


def best(value_E: np.ndarray, share: float) -> np.ndarray:
    """Numbers of the `share` of episodes with the greatest value, at least one, sorted; ties: the lower number.

    Nested: a smaller share of the same episodes is part of a larger one.
    """
    count = max(1, math.ceil(share * len(value_E) - 1.0e-9))
    return np.sort(np.argsort(-value_E, kind="stable")[:count])
