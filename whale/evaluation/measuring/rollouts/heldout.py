"""Held-out episodes as arrays: stored segments for teacher forcing, pixel windows for rollouts.

Shapes: S segments, B windows, T window, L window length, N tokens per frame, R resolution, A = 7, K = M = 16 (z).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from whale.common.errors import BadDataError
from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import normalize_actions, open_each, pad_frames, spread
from whale.data.segments.token_shards import TokenSet, ZSet, require_same_grid
from whale.data.storage.shards import EpisodeRow, ShardSet

Starts = Literal["keyed", "spread"]


@dataclass(frozen=True)
class Dataset:
    """One dataset's frames, tokens and z of every split, cut on one grid."""

    name: str
    shards: ShardSet
    tokens: TokenSet
    z: ZSet
    normalizer: ActionNormalizer

    @property
    def window(self) -> int:
        """T, steps of a segment."""
        return self.tokens.segments.window

    def normalized(self, actions: np.ndarray) -> np.ndarray:
        """Raw actions [..., A] -> float32 in [-1, 1]."""
        return normalize_actions(self.normalizer.normalize, actions, np.ones(actions.shape[:-1], bool))


@dataclass(frozen=True)
class Segments:
    """Phase-0 segments of some episodes: every transition exactly once. `episode` [S] numbers the episodes."""

    tokens: np.ndarray  # int64 [S, T+1, N]
    actions: np.ndarray  # float32 [S, T, A], normalised; zero where invalid
    valid: np.ndarray  # bool [S, T]: this transition counts
    z_log_probs: np.ndarray  # float32 [S, T, K, M]
    num_frames: np.ndarray  # int32 [S]
    episode: np.ndarray  # int64 [S]
    frames: np.ndarray  # uint8 [S, T+1, R, R, 3], padded as the tokens are; [S, 0, ...] if not asked for

    @property
    def is_full(self) -> np.ndarray:
        """Segments without padding and without an invalid action. bool [S]."""
        return np.all(self.valid, axis=1)


@dataclass(frozen=True)
class Windows:
    """Equally long pieces of episodes. `actions` are in RAW units.

    Where more than the first frame is given, the others lie before it: `earlier_frames`, `earlier_actions`.
    """

    frames: np.ndarray  # uint8 [B, L, R, R, 3]
    actions: np.ndarray  # float32 [B, L-1, A]
    episode: np.ndarray  # int64 [B]
    keys: list[str]
    state: np.ndarray | None = None  # float32 [B, L, 7]: reached pose and gripper; None where none is recorded
    earlier_frames: np.ndarray | None = None  # uint8 [B, c-1, R, R, 3]
    earlier_actions: np.ndarray | None = None  # float32 [B, c-1, A]
    task: np.ndarray | None = None  # str [B], as the episodes name it; None where one does not
    policy: np.ndarray | None = None  # str [B], who acted

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def given(self) -> np.ndarray:
        """What a rollout is given: c frames uint8 [B, c, R, R, 3], the first of `frames` the last of them."""
        first = self.frames[:, :1]
        return first if self.earlier_frames is None else np.concatenate([self.earlier_frames, first], axis=1)

    def with_earlier(self, actions: np.ndarray) -> np.ndarray:
        """Actions [B, h, A] of a rollout, behind those that led to its first frame: [B, c-1+h, A]."""
        return actions if self.earlier_actions is None else np.concatenate([self.earlier_actions, actions], axis=1)

    def behind(self, context: int) -> "Windows":
        """The same windows with their first `context` frames given."""
        if context == 1:
            return self
        at = context - 1
        return replace(
            self,
            frames=self.frames[:, at:],
            actions=self.actions[:, at:],
            state=None if self.state is None else self.state[:, at:],
            earlier_frames=self.frames[:, :at],
            earlier_actions=self.actions[:, :at],
        )

    def take(self, rows: np.ndarray | slice) -> "Windows":
        """Some of the windows."""
        chosen = np.arange(len(self))[rows]
        parts = {name: value[chosen] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, keys=[self.keys[index] for index in chosen], **parts)

    def repeated(self, times: int) -> "Windows":
        """Each window `times` times, one after the other; copies have names of their own, and so draw differently."""
        if times == 1:
            return self
        fields = {name: part.repeat(times, axis=0) for name, part in vars(self).items() if isinstance(part, np.ndarray)}
        keys = [f"{key}#{copy}" if copy else key for key in self.keys for copy in range(times)]
        return replace(self, keys=keys, **fields)


def open_datasets(role_dir: Path) -> list[Dataset]:
    """Every dataset of `<role_dir>/shards`, by name, with its tokens and z; MissingInputError without any."""
    return [*open_each(role_dir / "shards", lambda folder: open_dataset(role_dir, folder.name)).values()]


def open_dataset(role_dir: Path, name: str) -> Dataset:
    """Open one dataset; tokens and z of different grids are refused."""
    shards = ShardSet.open(role_dir / "shards" / name)
    tokens, z = (TokenSet.open(role_dir / "tokens" / name), ZSet.open(role_dir / "z" / name))
    require_same_grid(tokens, z)
    return Dataset(name, shards, tokens, z, ActionNormalizer.from_statistics(shards.statistics))


def read_segments(dataset: Dataset, split: str, max_episodes: int, with_frames: bool = True) -> Segments:
    """Phase-0 segments of at most `max_episodes` episodes. Raises BadDataError for a split without any."""
    shard_rows = {row.key: row for row in dataset.shards.episodes(split)}
    z_rows = {row.key: row for row in dataset.z.episodes(split)}
    parts = []
    for number, row in enumerate(spread(dataset.tokens.episodes(split), max_episodes)):
        arrays, z = dataset.tokens.read(row), dataset.z.read(z_rows[row.key])["z"]
        phase = np.flatnonzero(arrays["starts"] % dataset.window == 0)
        actions, valid = arrays["action"][phase], arrays["action_valid"][phase]
        frames = _frames(dataset, shard_rows[row.key], arrays["starts"][phase]) if with_frames else _no_frames(phase)
        parts.append(
            Segments(
                tokens=arrays["tokens"][phase].astype(np.int64),
                actions=normalize_actions(dataset.normalizer.normalize, actions, valid),
                valid=valid,
                z_log_probs=z[phase].astype(np.float32),
                num_frames=arrays["num_frames"][phase],
                episode=np.full(len(phase), number),
                frames=frames,
            )
        )
    if not parts:
        raise _empty(dataset, split)
    return Segments(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def read_windows(
    dataset: Dataset, split: str, length: int, max_episodes: int, per_episode: int,
    starts: Starts = "spread", seed: int = 0,
) -> Windows:  # fmt: skip
    """Windows of `length` frames, at most `per_episode` of each of at most `max_episodes` episodes.

    starts: `spread` evenly from an episode's first frame on; `keyed`: drawn by seed, dataset, split and episode, none
    twice, and those of a smaller `per_episode` are among them. Only windows whose every action is valid; shorter
    episodes are left out. Raises BadDataError if none is left.
    """
    rows = [row for row in dataset.shards.episodes(split) if row.num_steps >= length]
    frames, actions, episode, keys, states = [], [], [], [], []
    chosen_rows = spread(rows, max_episodes)
    for number, row in enumerate(chosen_rows):
        arrays = dataset.shards.read_arrays(row)
        valid = arrays["action_valid"]
        usable = np.array([valid[start : start + length - 1].all() for start in range(row.num_steps - length + 1)])
        if starts == "keyed":
            chosen = _keyed(np.flatnonzero(usable), per_episode, f"{seed}|{dataset.name}|{split}|{row.key}")
        else:
            chosen = np.unique(np.linspace(0, row.num_steps - length, per_episode).round().astype(int))
            chosen = chosen[usable[chosen]]
        for start in chosen:
            steps = slice(start, start + length - 1)
            frames.append(dataset.shards.read_frames(row, int(start), int(start) + length))
            actions.append(arrays["action"][steps])
            if "state" in arrays:
                states.append(arrays["state"][start : start + length])
            episode.append(number)
            keys.append(f"{row.key}+{start}")
    if not frames:
        raise _empty(dataset, split, f"episodes of >= {length} frames with valid actions")
    return Windows(
        np.stack(frames), np.stack(actions).astype(np.float32), np.array(episode), keys,
        state=np.stack(states) if len(states) == len(frames) else None,
        task=_said(chosen_rows, "task", episode), policy=_said(chosen_rows, "policy", episode),
    )  # fmt: skip


def _said(rows: Sequence[EpisodeRow], name: str, episode: list[int]) -> np.ndarray | None:
    """What the episode of each window says of itself under a name; None where one says nothing."""
    said = [rows[number].metadata.get(name) for number in episode]
    return np.array(said) if all(isinstance(value, str) and value for value in said) else None


def _keyed(usable: np.ndarray, count: int, key: str) -> np.ndarray:
    """The first `count` of a random order that is a function of `key`, in time order."""
    return np.sort(keyed(key).permutation(usable)[:count])


def keyed(key: str) -> np.random.Generator:
    """Draws that are a function of a text: the same whatever else is drawn."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))


def read_frames(dataset: Dataset, split: str, max_episodes: int) -> np.ndarray:
    """Every frame of at most `max_episodes` episodes: uint8 [M, R, R, 3]."""
    rows = spread(dataset.shards.episodes(split), max_episodes)
    if not rows:
        raise _empty(dataset, split)
    return np.concatenate([dataset.shards.read_frames(row, 0, row.num_steps) for row in rows])


def read_states(
    dataset: Dataset, split: str, max_episodes: int, resolution: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Frames uint8 [M, R, R, 3], states [M, 7] and episode numbers [M]; None where no state is recorded.

    resolution: larger frames are averaged down to it, episode by episode: whole ones of a long split fill the memory.
    """
    frames, states, episode = [], [], []
    for number, row in enumerate(spread(dataset.shards.episodes(split), max_episodes)):
        arrays = dataset.shards.read_arrays(row)
        if "state" not in arrays:
            return None
        whole = dataset.shards.read_frames(row, 0, row.num_steps)
        frames.append(whole if resolution is None else shrunk(whole, resolution))
        states.append(arrays["state"])
        episode.append(np.full(row.num_steps, number))
    if not frames:
        raise _empty(dataset, split)
    return np.concatenate(frames), np.concatenate(states), np.concatenate(episode)


def shrunk(frames: np.ndarray, resolution: int) -> np.ndarray:
    """Frames uint8 [M, R, R, 3] averaged down to `resolution`; those that are no larger stay as they are."""
    if frames.shape[1] <= resolution:
        return frames
    return np.stack([cv2.resize(frame, (resolution, resolution), interpolation=cv2.INTER_AREA) for frame in frames])


def _frames(dataset: Dataset, row, starts: np.ndarray) -> np.ndarray:
    episode_FHWC = dataset.shards.read_frames(row, 0, row.num_steps)
    length = dataset.window + 1
    return np.stack([pad_frames(episode_FHWC[start : start + length], length) for start in starts])


def _no_frames(phase: np.ndarray) -> np.ndarray:
    return np.zeros((len(phase), 0, 1, 1, 3), np.uint8)


def _empty(dataset: Dataset, split: str, expected: str = "at least one episode") -> BadDataError:
    return BadDataError(
        "a split has nothing to evaluate on",
        file=dataset.shards.directory,
        place=f"split {split}",
        found=f"{len(dataset.shards.episodes(split))} episodes",
        expected=expected,
        remedy="choose another split or a shorter horizon in params.yaml",
    )
