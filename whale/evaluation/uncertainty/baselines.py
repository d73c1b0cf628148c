"""What an uncertainty has to beat: scores that need no second opinion of the model, and one that asks it more often.

| score | is |
|---|---|
| `step` | the imagined step's number |
| `moved` | how far the imagined frame lies from the last given one |
| `action` | length of the action that leads to the frame, normalised as the networks take it |
| `cumulative_entropy` | entropy of the token probabilities, summed up to the frame |
| `mc_variance` | population variance of several drawn rollouts' pixels, as an ensemble's |
| `neighbour` | distance of the imagined frame to the nearest recorded one of training episodes |

Distances are mean squared differences of the tokenizer's features. Shapes: B windows, h imagined steps, F features.
"""

import numpy as np

BASELINES = ("cumulative_entropy", "moved", "action", "mc_variance", "neighbour", "step")


def moved(features_BhF: np.ndarray, given_BF: np.ndarray) -> np.ndarray:
    """-> [B, h], against the features of the last given frame."""
    return np.square(features_BhF - given_BF[:, None]).mean(axis=-1)


def action_length(actions_BhA: np.ndarray) -> np.ndarray:
    """Euclidean length of the pose part of normalised actions, whose last number is the gripper. -> [B, h]"""
    return np.linalg.norm(actions_BhA[..., :-1].astype(np.float64), axis=-1)


def nearest(features_BhF: np.ndarray, references_MF: np.ndarray) -> np.ndarray:
    """Distance to the nearest of M reference frames. -> [B, h]"""
    rows = features_BhF.reshape(-1, features_BhF.shape[-1]).astype(np.float64)
    references = references_MF.astype(np.float64)
    squared = np.square(rows).sum(1)[:, None] - 2 * rows @ references.T + np.square(references).sum(1)
    return (squared.min(axis=1).clip(0) / rows.shape[1]).reshape(features_BhF.shape[:-1])


def variance(frames_mBhHWC: list[np.ndarray]) -> np.ndarray:
    """Of m rollouts uint8 [B, h, R, R, 3]: population variance, mean over pixels and channels, images in [0, 1]."""
    mean = sum(frames.astype(np.float32) for frames in frames_mBhHWC) / len(frames_mBhHWC)
    squared = sum(np.square(frames.astype(np.float32) - mean) for frames in frames_mBhHWC)
    return squared.mean(axis=(-3, -2, -1), dtype=np.float64) / len(frames_mBhHWC) / 255**2
