"""Filmstrips and moving pictures from uint8 arrays, as bytes that depend on the arrays only.

Written by Pillow, which draws what we computed and never reads foreign data.
Shapes: T frames, H W image, 3 RGB channels.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

GAP = 2  # pixels between the frames of a strip
BAR = 4  # pixels of the uncertainty bar under a moving picture, before it is enlarged
WARM, EMPTY = (200, 114, 44), (225, 222, 214)


def png(image_HWC: np.ndarray) -> bytes:
    """RGB uint8 (H, W, 3), or RGBA (H, W, 4) -> PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image_HWC).save(buffer, "PNG")
    return buffer.getvalue()


def filmstrip(frames_THWC: np.ndarray, lead: int = 0) -> np.ndarray:
    """Frames side by side with transparent gaps, after `lead` empty places: RGBA (H, W', 4)."""
    _, height, width, _ = frames_THWC.shape
    strip = np.zeros((height, (lead + len(frames_THWC)) * (width + GAP) - GAP, 4), np.uint8)
    for index, frame in enumerate(frames_THWC, start=lead):
        start = index * (width + GAP)
        strip[:, start : start + width, :3], strip[:, start : start + width, 3] = frame, 255
    return strip


def side_by_side(recorded_THWC: np.ndarray, imagined_THWC: np.ndarray, level_T: np.ndarray, scale: int) -> np.ndarray:
    """Recorded | imagined, and under them a bar as long as the uncertainty (`level_T` in [0, 1], NaN: no bar)."""
    count, height, width, _ = recorded_THWC.shape
    movie = np.full((count, height + GAP + BAR, 2 * width + GAP, 3), 255, np.uint8)
    movie[:, :height, :width], movie[:, :height, width + GAP :] = recorded_THWC, imagined_THWC
    movie[:, height + GAP :] = EMPTY
    for index, level in enumerate(level_T):
        filled = round(float(np.nan_to_num(level)) * movie.shape[2])
        movie[index, height + GAP :, :filled] = WARM
    return movie.repeat(scale, axis=1).repeat(scale, axis=2)


def columns(movies: Sequence[np.ndarray], scale: int) -> np.ndarray:
    """Movies of one size and length beside each other, with white gaps: uint8 [T, H', W', 3]."""
    first = movies[0]
    gap = np.full((*first.shape[:2], GAP, 3), 255, np.uint8)
    parts = [part for movie in movies for part in (gap, movie)][1:]
    return np.concatenate(parts, axis=2).repeat(scale, axis=1).repeat(scale, axis=2)


def gif(frames_THWC: np.ndarray, milliseconds: int = 220) -> bytes:
    """An endless GIF; each frame gets its own 255 colours, without dithering."""
    images = [
        Image.fromarray(frame).quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        for frame in frames_THWC
    ]
    durations = [milliseconds] * (len(images) - 1) + [4 * milliseconds]
    buffer = io.BytesIO()
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=2, optimize=False
    )
    return buffer.getvalue()
