"""A short code of an episode's pictures that survives another encoding, size or brightness, but not another motion.

A few frames, spread evenly over the episode, are averaged in grey over a grid of 8 x 8 cells. Two things are kept, as
signs: how each cell differs from its right neighbour (what the scene looks like), and how it changed from one of these
frames to the next (what happened in it). A difference is "more", "less" or, within a margin relative to the typical
difference, "equal": flat walls must not decide by noise. Two bits each.

Episodes of one robot share their scene, so the distance is the larger one of both parts: the share of bits that differ
among those that either code has set. Found: copies encoded anew, resized, brighter, of other contrast. Not found:
copies that were cut in time, cropped, mirrored or turned.

Shapes: K frames of a code, G = 8 cells a side, H W image.
"""

from collections.abc import Sequence

import cv2
import numpy as np

NUM_FRAMES, GRID = 8, 8
MARGIN = 0.5  # of the root mean square of a part's differences
NOISE = 1.0  # grey levels that an encoder may add to the mean of a cell
SCENE_BYTES = NUM_FRAMES * GRID * GRID * 2 // 8
CODE_BYTES = SCENE_BYTES + (NUM_FRAMES - 1) * GRID * GRID * 2 // 8
NEAR = 0.25  # measured on the fleet: copies as in the tests up to 0.2; of 89,700 pairs of one robot the least 0.287


def frame_numbers(num_steps: int) -> list[int]:
    """K frame numbers from the first to the last frame; short episodes repeat some."""
    return np.linspace(0, num_steps - 1, NUM_FRAMES).round().astype(int).tolist()


def film_code(frames: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (CODE_BYTES,) of K RGB uint8 frames (H, W, 3)."""
    grey = [frame.astype(np.float64) @ [0.299, 0.587, 0.114] for frame in frames]
    scene = np.diff(np.stack([cell_means(each, GRID, GRID + 1) for each in grey]), axis=2)
    motion = np.diff(np.stack([cell_means(each, GRID, GRID) for each in grey]), axis=0)
    return np.concatenate([_signs(scene), _signs(motion)])


def cell_means(grey_HW: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mean of the image over a grid of cells of equal size, pixels on an edge counted in parts."""
    return cv2.resize(grey_HW, (columns, rows), interpolation=cv2.INTER_AREA)


def distances(code: np.ndarray, codes_N: np.ndarray) -> np.ndarray:
    """float (N,) in [0, 1] of one code to N others; 0 is the same film, 1 shares nothing."""
    parts = [slice(0, SCENE_BYTES), slice(SCENE_BYTES, CODE_BYTES)]
    return np.max([_distance(code[part], codes_N[:, part]) for part in parts], axis=0)


def _distance(code: np.ndarray, codes_N: np.ndarray) -> np.ndarray:
    unlike = np.bitwise_count(code ^ codes_N).sum(axis=1, dtype=np.int64)
    either = np.bitwise_count(code | codes_N).sum(axis=1, dtype=np.int64)
    return unlike / np.maximum(either, 1)


def _signs(difference: np.ndarray) -> np.ndarray:
    """Two bits for each difference: more, less, neither."""
    margin = max(NOISE, MARGIN * float(np.sqrt(np.mean(difference**2))))
    return np.packbits(np.stack([difference > margin, difference < -margin]).ravel())
