"""Retracing-rollout: reach the next frame again along another path, and see whether the model agrees with itself.

Shapes: B queries, C frames of history (o_w..o_t), A action. model.md 7.1 is the definition; Eq. 5 of the paper.
For depth k the last n = k+1 actions a_{t-k}..a_t are replaced by n equal steps: their MEAN in raw units, with the
gripper of a_t on each. A branch keeps o_w..o_{t-k} and imagines n frames; its last frame is a second opinion on
o_{t+1}. U = (mean distance to the plain prediction) x (mean entropy of the plain prediction).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

GRIPPER = -1


@dataclass(frozen=True)
class Prediction:
    """`frames` [B, n, ...], imagined; `entropy` [B, n], mean over tokens in nats."""

    frames: np.ndarray
    entropy: np.ndarray


class Predict(Protocol):
    """A world model: given frames [B, c, ...] and RAW actions [B, c-1+horizon, A], imagine `horizon` frames."""

    def __call__(self, frames: np.ndarray, actions: np.ndarray, horizon: int) -> Prediction: ...


Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]  # two batches of images [B, ...] -> [B], >= 0


@dataclass(frozen=True)
class Uncertainty:
    """Per query [B]: `retracing` = `disagreement` x `entropy`; NaN where no depth fits into the history."""

    disagreement: np.ndarray
    entropy: np.ndarray

    @property
    def retracing(self) -> np.ndarray:
        return self.disagreement * self.entropy


def retrace(action_KA: np.ndarray) -> np.ndarray:
    """n equal steps that end in the same pose as the n given ones. [..., n, A] raw -> [..., n, A] raw.

    Eq. 5 divided into n steps: the mean of the pose parts, the gripper of the last action. The mean of actions in
    range is in range, and it commutes with an affine normalisation; a sum does neither.
    """
    equal_KA = np.empty_like(action_KA)
    equal_KA[...] = action_KA.mean(axis=-2, keepdims=True)
    equal_KA[..., GRIPPER] = action_KA[..., -1:, GRIPPER]
    return equal_KA


def usable_depths(depths: Sequence[int], num_frames: int) -> list[int]:
    """K_t: the depths k whose branch still keeps one frame of the history; never padded."""
    return [k for k in depths if 1 <= k <= num_frames - 1]


def branch(predict: Predict, frames: np.ndarray, actions: np.ndarray, depth: int) -> np.ndarray:
    """o^(k)_{t+1}: keep o_w..o_{t-k} and a_w..a_{t-k-1}, imagine k+1 frames with equal steps. -> [B, ...]."""
    kept = frames.shape[1] - depth
    steps = retrace(actions[:, kept - 1 :])
    return predict(frames[:, :kept], np.concatenate([actions[:, : kept - 1], steps], axis=1), depth + 1).frames[:, -1]


def retracing_uncertainty(
    predict: Predict, distance: Distance, frames: np.ndarray, actions: np.ndarray, depths: Sequence[int]
) -> Uncertainty:
    """U of taking a_t at o_t, for histories `frames` [B, C, ...] and raw `actions` a_w..a_t [B, C, A].

    All queries share the start of the window; the plain prediction is made by the same `predict` as the branches,
    so that D carries no noise from different kernels.
    """
    plain = predict(frames, actions, 1)
    used = usable_depths(depths, frames.shape[1])
    if not used:
        return Uncertainty(np.full(len(frames), np.nan), plain.entropy[:, -1])
    distances = [distance(plain.frames[:, -1], branch(predict, frames, actions, k)) for k in used]
    return Uncertainty(np.mean(distances, axis=0), plain.entropy[:, -1])


def window_bounds(context: int, horizon: int, window: int) -> list[tuple[int, int]]:
    """[start, stop) of the frames a rollout holds before each of its `horizon` predictions.

    model.md 6.2: a window serves at most `window` input frames; when another is wanted, the last window / 2 frames
    become the new window.
    """
    bounds, start = [], 0
    for stop in range(context, context + horizon):
        if stop - start > window:
            start = stop - window // 2
        bounds.append((start, stop))
    return bounds
