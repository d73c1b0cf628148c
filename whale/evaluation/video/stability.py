"""Flicker: tokens that change although nothing moves, which no dynamics can predict.

With `hold_still: 8` tokens of what counts as still here are held, so the number is then nearly met by construction.

Shapes: S segments, T transitions, N = P x P patches of a frame, R resolution.
"""

import numpy as np

STILL = 8  # levels of 255: what JPEG and dithering do to a patch that stands still


def still_patches(frames: np.ndarray, num_tokens: int) -> np.ndarray:
    """Is no pixel of a patch more than STILL levels off the frame before? uint8 [S, T+1, R, R, 3] -> bool [S, T, N]."""
    side = round(num_tokens**0.5)
    away = np.abs(np.diff(frames.astype(np.int16), axis=1)).max(axis=-1)
    segments, steps, size = away.shape[:3]
    patches = away.reshape(segments, steps, side, size // side, side, size // side)
    still: np.ndarray = (patches.max(axis=(3, 5)) <= STILL).reshape(segments, steps, num_tokens)
    return still


def flicker(tokens: np.ndarray, frames: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Changed tokens of still patches, and still patches, of each segment [S].

    tokens [S, T+1, N]; counted bool [S, T]: transitions between two recorded frames.
    """
    still = still_patches(frames, tokens.shape[-1]) & counted[..., None]
    changed = tokens[:, 1:] != tokens[:, :-1]
    return (still & changed).sum(axis=(1, 2)), still.sum(axis=(1, 2))
