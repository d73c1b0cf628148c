"""What moves between frames, patch by patch, and how far places are apart.

Shapes: B batch, T frames, P x P patches of a frame of R x R pixels, 3 position (m).
"""

import numpy as np

STILL = 8  # levels of 255: what JPEG and dithering do to a patch that stands still


def moving_patches(frames: np.ndarray, patches_per_side: int) -> np.ndarray:
    """Is a pixel more than STILL levels off the frame before? uint8 [B, T, R, R, 3] -> bool [B, T-1, P * P]."""
    away = np.abs(np.diff(frames.astype(np.int16), axis=1)).max(axis=-1)
    batch, steps, size = away.shape[:3]
    side = patches_per_side
    patches = away.reshape(batch, steps, side, size // side, side, size // side)
    moved: np.ndarray = (patches.max(axis=(3, 5)) > STILL).reshape(batch, steps, side**2)
    return moved


def position_error(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Euclidean distance in metres. [..., 3] x [..., 3] -> float64 [...]"""
    distance: np.ndarray = np.linalg.norm(np.asarray(predicted, np.float64) - truth, axis=-1)
    return distance
