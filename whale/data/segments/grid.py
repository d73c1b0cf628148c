"""The segment grid: which windows of an episode are trained on, tokenized and embedded.

One rule for all stages. An episode of F frames is cut at starts s = p T / phases + i T; a segment
holds frames s..min(s + T, F - 1), so T + 1 frames of which neighbours of a phase share one. It exists if at least two
frames remain; a short tail repeats its last frame and `num_frames` tells the truth.

Shapes: F frames of an episode, T window, A = 7 action dimensions.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from whale.common.config import Config
from whale.common.errors import MissingInputError
from whale.common.json_files import canonical_json

MIN_FRAMES = 2  # fewer hold no transition

T = TypeVar("T")


class SegmentConfig(Config):
    """`window`: T, steps of a segment; `phases`: how many shifted grids cover every episode."""

    window: int = Field(gt=0)
    phases: int = Field(gt=0)

    @model_validator(mode="after")
    def _phases_divide_the_window(self) -> Self:
        if self.window % self.phases:
            raise ValueError(f"window {self.window} is not a multiple of phases {self.phases}")
        return self

    @property
    def stride(self) -> int:
        """Distance between neighbouring starts of all phases together."""
        return self.window // self.phases


def segment_starts(num_frames: int, window: int, phases: int) -> np.ndarray:
    """int32 starts of an episode of `num_frames` frames: phase 0 ascending, then phase 1, ..."""
    if window % phases:
        raise ValueError(f"window {window} is not a multiple of phases {phases}")
    end = num_frames - MIN_FRAMES + 1
    per_phase = [np.arange(p * window // phases, max(end, 0), window, dtype=np.int32) for p in range(phases)]
    return np.concatenate(per_phase)


def segment_num_frames(num_frames: int, starts: np.ndarray, window: int) -> np.ndarray:
    """Frames of each segment that are not padding: between 2 and T + 1."""
    return np.minimum(window + 1, num_frames - np.asarray(starts)).astype(np.int32)


def pad_frames(frames_FHWC: np.ndarray, length: int) -> np.ndarray:
    """Repeat the last frame until there are `length`; nothing is copied if there are."""
    missing = length - len(frames_FHWC)
    if missing <= 0:
        return frames_FHWC[:length]
    return np.concatenate([frames_FHWC, np.repeat(frames_FHWC[-1:], missing, axis=0)])


def cut_actions(action_FA: np.ndarray, valid_F: np.ndarray, start: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions and validity of the T steps from `start`: float32 (T, A) in raw units, bool (T,).

    A step is valid if its action is and if the frame it leads to lies in the episode. Padding is zero and invalid.
    """
    count = max(0, min(window, len(action_FA) - start))
    action_TA = np.zeros((window, action_FA.shape[1]), np.float32)
    valid_T = np.zeros(window, bool)
    action_TA[:count] = action_FA[start : start + count]
    transitions = max(0, min(count, len(action_FA) - 1 - start))
    valid_T[:transitions] = valid_F[start : start + transitions]
    return action_TA, valid_T


def normalize_actions(
    normalize: Callable[[np.ndarray], np.ndarray], action_TA: np.ndarray, valid_T: np.ndarray
) -> np.ndarray:
    """float32 actions in [-1, 1]; invalid steps become zero, so that a NaN that was flagged never reaches a model."""
    clean_TA = np.where(valid_T[..., None], action_TA, np.float32(0))
    return np.where(valid_T[..., None], normalize(clean_TA), np.float32(0)).astype(np.float32)


class SegmentIndex:
    """Segments of a dataset, numbered over its episodes in their given order (sorted by key)."""

    def __init__(self, num_frames: Sequence[int] | np.ndarray, config: SegmentConfig):
        self.config = config
        self.episode_frames = np.asarray(num_frames, np.int64)
        # Starts of all phases together are the multiples of the stride; counting them needs no loop over episodes.
        counts = np.maximum(0, -(-(self.episode_frames - MIN_FRAMES + 1) // config.stride))
        self._ends = np.cumsum(counts)
        self.num_segments = int(self._ends[-1]) if len(counts) else 0

    def locate(self, segment: int) -> tuple[int, int]:
        """(episode, position in its `segment_starts`) of a segment number."""
        if not 0 <= segment < self.num_segments:
            raise IndexError(f"segment {segment} of {self.num_segments}")
        episode = int(self._ends.searchsorted(segment, side="right"))
        return episode, segment - (int(self._ends[episode - 1]) if episode else 0)

    def start_of(self, segment: int) -> tuple[int, int]:
        """(episode, first frame) of a segment number."""
        episode, position = self.locate(segment)
        end = int(self.episode_frames[episode]) - MIN_FRAMES + 1
        for first in range(0, self.config.window, self.config.stride):  # the phases of `segment_starts`, by arithmetic
            num_starts = max(0, -(-(end - first) // self.config.window))
            if position < num_starts:
                break
            position -= num_starts
        return episode, first + position * self.config.window

    def num_frames(self) -> np.ndarray:
        """Unpadded frames of every segment, in segment order."""
        window, phases = self.config.window, self.config.phases
        frames = [int(count) for count in self.episode_frames]
        per_episode = [segment_num_frames(f, segment_starts(f, window, phases), window) for f in frames]
        return np.concatenate([np.zeros(0, np.int32), *per_episode])

    def starts(self) -> np.ndarray:
        """First frame of every segment, in segment order (int64)."""
        window, phases = self.config.window, self.config.phases
        frames = [int(count) for count in self.episode_frames]
        return np.concatenate([np.zeros(0, np.int64), *[segment_starts(f, window, phases) for f in frames]])

    def frames_left(self) -> np.ndarray:
        """Frames from every segment's start to the end of its episode, in segment order (int64)."""
        window, phases = self.config.window, self.config.phases
        frames = [int(count) for count in self.episode_frames]
        return np.concatenate([np.zeros(0, np.int64), *[f - segment_starts(f, window, phases) for f in frames]])


def grid_of(config: SegmentConfig, shards_digest: str) -> dict[str, int | str]:
    """What tokens and z must share to be joined: the cut and the episodes it was applied to."""
    return {
        "window": config.window,
        "phases": config.phases,
        "min_frames": MIN_FRAMES,
        "shards": shards_digest,
    }


def grid_digest(grid: dict[str, int | str]) -> str:
    """sha256 of the canonical JSON of a grid."""
    return hashlib.sha256(canonical_json(grid).encode()).hexdigest()


def dataset_folders(directory: Path) -> list[Path]:
    """Folders of finished datasets, sorted; hidden ones are unfinished output of a stage that runs now."""
    return sorted(path.parent for path in directory.glob("[!.]*/manifest.json"))


def open_each(directory: Path, opener: Callable[[Path], T]) -> dict[str, T]:
    """`opener(folder)` for every dataset folder of `directory`, by name, sorted. MissingInputError if there is none."""
    found = {path.name: opener(path) for path in dataset_folders(directory)}
    if not found:
        raise MissingInputError("no dataset here", file=directory, expected="a folder with manifest.json per dataset")
    return found


def spread(rows: Sequence[T], count: int) -> list[T]:
    """At most `count` rows, evenly spread over the list, so that every policy and task takes part."""
    if not rows:
        return []
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return [rows[index] for index in chosen]
