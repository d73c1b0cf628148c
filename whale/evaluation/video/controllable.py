"""Controllable generation (Fig. 8): one start, and actions that move less, as much, or more than the recorded ones.

Pose dimensions are scaled in RAW units, the gripper keeps its command; the model normalises and clips afterwards.
Shapes: B windows, h horizon, R resolution, A = 7.
"""

from collections.abc import Sequence

import numpy as np

from whale.evaluation.measuring.rollouts.imagination import Predict

FACTORS = (0.8, 1.0, 1.2)  # "move less" and "move more" of Fig. 8, around what was recorded


def scaled_actions(raw: np.ndarray, factor: float) -> np.ndarray:
    """Pose deltas x `factor`; the last dimension, the gripper, as it is. float32 [..., A] -> the same."""
    return np.concatenate([raw[..., :-1] * np.float32(factor), raw[..., -1:]], axis=-1)


def controlled(
    predict: Predict, frames: np.ndarray, actions: np.ndarray, horizon: int, factors: Sequence[float] = FACTORS
) -> dict[float, np.ndarray]:
    """Factor -> imagined frames uint8 [B, h, R, R, 3]. Only the imagined steps' actions are scaled.

    frames [B, c, R, R, 3], actions [B, c-1+h, A] in raw units: what led through the given frames stays as recorded.
    """
    given = frames.shape[1] - 1
    return {
        factor: predict(
            frames,
            np.concatenate([actions[:, :given], scaled_actions(actions[:, given:], factor)], axis=1),
            horizon,
        )
        for factor in factors
    }
