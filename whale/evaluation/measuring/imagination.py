"""Rollouts and reconstructions of held-out windows.

Shapes: B windows, c context, h horizon, L = c + h frames, R resolution, A = 7.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import Observer, rollout
from whale.models.world.rollout import frames as imagined_frames

# Given frames [B, c, ...] and RAW actions [B, c-1+horizon, A] -> `horizon` imagined frames [B, h, ...].
Predict = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def rollouts(
    world: LearnedWorld, given: np.ndarray, actions: np.ndarray, horizon: int, batch_size: int,
    observers: Sequence[Observer] = (imagined_frames,), **how: Any,
) -> dict[str, np.ndarray]:  # fmt: skip
    """`rollout` of any number of windows, `batch_size` at a time; `how`: its temperature, z, and a seed each."""
    parts, placed, seed = [], world.tokenizer.placed, how.pop("seed", 0)
    for start in range(0, len(given), batch_size):
        some = slice(start, min(start + batch_size, len(given)))
        own = seed if isinstance(seed, int) else seed[some]
        found = rollout(world, placed(given[some]), placed(actions[some]), horizon, observers, seed=own, **how)
        parts.append({name: values.cpu().numpy() for name, values in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def predictor(world: LearnedWorld, batch_size: int, **how: Any) -> Predict:
    """The world as a function of frames and actions; the defaults of `how` are those of every metric."""

    def predict(given: np.ndarray, actions: np.ndarray, horizon: int) -> np.ndarray:
        return rollouts(world, given, actions, horizon, batch_size, **how)["frames"]

    return predict


@torch.inference_mode()
def reconstruct(tokenizer: VideoTokenizer, frames: np.ndarray, batch_size: int) -> np.ndarray:
    """Encode and decode segments, each from its own first frame. uint8 [S, F, R, R, 3] -> the same."""
    parts = []
    for start in range(0, len(frames), batch_size):
        tokens = tokenizer.encode(tokenizer.pixels(frames[start : start + batch_size]))
        parts.append(_to_uint8(tokenizer.decode(tokens)))
    return np.concatenate(parts)


def reconstruct_long(tokenizer: VideoTokenizer, frames: np.ndarray, window: int, batch_size: int) -> np.ndarray:
    """Reconstruct windows longer than a segment piece by piece, T + 1 frames each: the ceiling of a rollout."""
    pieces = range(0, frames.shape[1], window + 1)
    return np.concatenate(
        [reconstruct(tokenizer, frames[:, start : start + window + 1], batch_size) for start in pieces], axis=1
    )


def _to_uint8(frames: Tensor) -> np.ndarray:
    """Rounded exactly as a rollout rounds, so that ceiling and rollout differ in the tokens only."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
