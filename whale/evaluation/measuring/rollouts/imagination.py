"""Rollouts of held-out windows.

Shapes: B windows, c context, h horizon, L = c + h frames, R resolution, A = 7.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from whale.models.world.rollout import Observer, rollout
from whale.models.world.rollout import frames as imagined_frames
from whale.models.world.world import World

# Given frames [B, c, ...] and RAW actions [B, c-1+horizon, A] -> `horizon` imagined frames [B, h, ...].
Predict = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def rollouts(
    world: World, given: np.ndarray, actions: np.ndarray, horizon: int, batch_size: int,
    observers: Sequence[Observer] = (imagined_frames,), **how: Any,
) -> dict[str, np.ndarray]:  # fmt: skip
    """`rollout` of any number of windows, `batch_size` at a time; `how`: its temperature, z, and a seed each."""
    parts, seed = [], how.pop("seed", 0)
    for start in range(0, len(given), batch_size):
        some = slice(start, min(start + batch_size, len(given)))
        own = seed if isinstance(seed, int) else seed[some]
        shown, taken = [
            torch.from_numpy(np.ascontiguousarray(part[some])).to(world.device) for part in (given, actions)
        ]
        found = rollout(world, shown, taken, horizon, observers, seed=own, **how)
        parts.append({name: values.cpu().numpy() for name, values in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def predictor(world: World, batch_size: int, **how: Any) -> Predict:
    """The world as a function of frames and actions; the defaults of `how` are those of every metric."""

    def predict(given: np.ndarray, actions: np.ndarray, horizon: int) -> np.ndarray:
        return rollouts(world, given, actions, horizon, batch_size, **how)["frames"]

    return predict
