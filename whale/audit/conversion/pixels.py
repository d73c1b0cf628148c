"""Pixels by other means than ingest's: OpenCV's JPEG decoder, resizing as matrices, and how far two pictures differ.

Ingest stretches to a square by area averages where the picture shrinks and by a cubic where it grows, and stores JPEG
4:4:4. So a frame is held against the resized original, and against the same after one JPEG of the same quality:
the nearer counts. Shapes: H W image, N side.
"""

import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

MEAN_TOLERANCE = 2.0  # grey levels, of a whole frame
BLOCK_TOLERANCE = 12.0  # of the worst block: a small part that is wrong drowns in the mean
BLOCK = 8
CUBIC = -0.75
PLANES = re.compile(r"(.+)\[(\d+):(\d+)\]")


def decoded(data: bytes) -> np.ndarray:
    """uint8 (H, W, 3) RGB of a JPEG or PNG, by OpenCV; ValueError if it is none."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image_HWC is None:
        raise ValueError(f"no picture: {data[:8]!r}")
    return image_HWC[:, :, ::-1]


def pictures_of(array_of: Callable[[str], Any]) -> Callable[[str], list[np.ndarray] | None]:
    """Name of a camera -> its pictures: (T, H, W, 3 or 4), (T, C, H, W), encoded, or three planes `name[c:c + 3]`."""

    def pictures(key: str) -> list[np.ndarray] | None:
        planes = PLANES.fullmatch(key)
        array = array_of(planes[1] if planes else key)
        if array is None:
            return None
        if planes:
            return [np.moveaxis(frame[int(planes[2]) : int(planes[3])], 0, 2) for frame in array]
        if len(array.shape) == 4:
            return [frame[..., :3] if array.shape[3] in (3, 4) else np.moveaxis(frame, 0, 2) for frame in array]
        return [decoded(value if isinstance(value, bytes) else np.asarray(value).tobytes()) for value in array]

    return pictures


def resized(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """uint8 (N, N, 3)."""
    height, width = image_HWC.shape[:2]
    if (height, width) == (side, side):
        return image_HWC
    kind = "cubic" if height * width <= side * side else "area" if min(height, width) >= side else "linear"
    rows, columns = _weights(height, side, kind), _weights(width, side, kind)
    values = np.einsum("yh,hwc,xw->yxc", rows, image_HWC.astype(np.float64), columns, optimize=True)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def after_jpeg(image_HWC: np.ndarray, quality: int) -> np.ndarray:
    """What one JPEG 4:4:4 of that quality leaves, by OpenCV's encoder."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return decoded(cv2.imencode(".jpg", np.ascontiguousarray(image_HWC[:, :, ::-1]), options)[1].tobytes())


def difference(one_HWC: np.ndarray, other_HWC: np.ndarray) -> tuple[float, float]:
    """Mean distance of all values, and that of the worst block of BLOCK x BLOCK pixels."""
    away_HW = np.abs(one_HWC.astype(np.int16) - other_HWC.astype(np.int16)).mean(axis=2)
    height, width = (size - size % BLOCK for size in away_HW.shape)
    blocks = away_HW[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(axis=(1, 3))
    return float(away_HW.mean()), float(blocks.max(initial=0.0))


def _weights(size: int, side: int, kind: str) -> np.ndarray:
    """(N, size): which pixels make each new one. "linear" is OpenCV's area mode where one side grows."""
    scale, weights = size / side, np.zeros((side, size))
    for i in range(side):
        if kind == "area":
            pixels = np.arange(size)
            weights[i] = np.clip(np.minimum(pixels + 1, (i + 1) * scale) - np.maximum(pixels, i * scale), 0, None)
            weights[i] /= scale
            continue
        if kind == "cubic":
            centre = (i + 0.5) * scale - 0.5
            first = int(np.floor(centre)) - 1
            taps = [_cubic(abs(centre - (first + k))) for k in range(4)]
        else:
            first = int(np.floor(i * scale))
            part = (i + 1) - (first + 1) / scale
            part = 0.0 if part <= 0 else part - np.floor(part)
            taps = [1.0 - part, part]
        for k, tap in enumerate(taps):
            weights[i, min(max(first + k, 0), size - 1)] += tap
    return weights


def _cubic(x: float) -> float:
    if x <= 1:
        return (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
    return CUBIC * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0
