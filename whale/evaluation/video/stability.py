"""Flicker: tokens that change although nothing moves, which no dynamics can predict.

With `hold_still: 8` tokens of what counts as still here are held, so the number is then nearly met by construction.

Shapes: S segments, T transitions, N = P x P patches of a frame, R resolution.
"""

import numpy as np

from whale.evaluation.measuring.motion import moving_patches


def flicker(tokens: np.ndarray, frames: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Changed tokens of still patches, and still patches, of each segment [S].

    tokens [S, T+1, N]; counted bool [S, T]: transitions between two recorded frames.
    """
    still = ~moving_patches(frames, round(tokens.shape[-1] ** 0.5)) & counted[..., None]
    changed = tokens[:, 1:] != tokens[:, :-1]
    return (still & changed).sum(axis=(1, 2)), still.sum(axis=(1, 2))
