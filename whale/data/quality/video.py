"""What a camera's frames give away without knowing the scene: black, frozen, red and blue exchanged.

A few frames of an episode are decoded, small; frames are equal if their encoded bytes are.
Shapes: T frames, H W image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whale.data.storage.images import glance

LOOKS = 8  # frames of an episode that are decoded, evenly spaced
SIDE = 48  # pixels a side that are enough to see colours
BLACK = 8  # a frame without any brighter value is black
# A frame that encodes to less than this share of the median, beside the tables of a JPEG, is decoded as well.
SUSPICIOUS_SIZE, JPEG_TABLES = 0.5, 620
FROZEN_STEPS = 5  # so many steps with motion between equal frames are a frozen video
# Dark and coloured pixels: wood, cardboard, skin and leather are warm, and few dark things are blue.
DARK, COLOURED = 150, 0.2


@dataclass(frozen=True)
class CameraReport:
    """`looked` frames decoded, `black` of them; `frozen`: most steps with motion within one run of equal frames.

    coloured, warm: dark coloured pixels, and those among them with more red than blue.
    """

    looked: int
    black: int
    frozen: int
    coloured: int
    warm: int

    @property
    def is_black(self) -> bool:
        return self.looked > 0 and self.black >= 0.99 * self.looked

    @property
    def is_frozen(self) -> bool:
        return self.frozen >= FROZEN_STEPS and not self.is_black


def look(frames: Sequence[bytes], moves_T: np.ndarray) -> CameraReport:
    """One camera's encoded frames; moves_T (T - 1,): did the robot move between frame t and t + 1?

    Raises ImageError for a frame that does not decode.
    """
    images = [glance(frames[t], SIDE) for t in _worth_a_look(frames)]
    black = [int(image.max()) < BLACK for image in images]
    coloured, warm = np.sum([_warmth(image) for image in images], axis=0) if images else (0, 0)
    return CameraReport(len(images), sum(black), _frozen_steps(frames, moves_T), int(coloured), int(warm))


def _worth_a_look(frames: Sequence[bytes]) -> list[int]:
    if not frames:
        return []
    spaced = np.linspace(0, len(frames) - 1, min(LOOKS, len(frames))).round().astype(int)
    sizes = np.array([max(len(frame) - JPEG_TABLES, 0) for frame in frames])
    small = np.flatnonzero(sizes < SUSPICIOUS_SIZE * np.median(sizes))
    return sorted({*spaced.tolist(), *small.tolist()})


def _warmth(image_HWC: np.ndarray) -> tuple[int, int]:
    red, green, blue = (image_HWC[..., channel].astype(int) for channel in range(3))  # numpy is slow along 3
    high_HW = np.maximum(np.maximum(red, green), blue)
    low_HW = np.minimum(np.minimum(red, green), blue)
    chosen_HW = (high_HW < DARK) & (high_HW - low_HW > COLOURED * high_HW) & (high_HW >= BLACK)
    return int(chosen_HW.sum()), int((chosen_HW & (red > blue)).sum())


def _frozen_steps(frames: Sequence[bytes], moves_T: np.ndarray) -> int:
    """Most steps during which the robot moved and the picture did not, in a row but for its pauses."""
    most = current = 0
    for t in range(1, len(frames)):
        current = current + int(moves_T[t - 1]) if frames[t] == frames[t - 1] else 0
        most = max(most, current)
    return most
