"""What a camera's frames give away without knowing the scene: black, frozen, red and blue exchanged.

A few frames of an episode are decoded, small; frames are equal if their encoded bytes are.
Shapes: T frames, H W image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from whale.data.storage.images import glance

LOOKS = 8  # frames of an episode that are decoded, evenly spaced
SIDE = 48  # pixels a side that are enough to see colours
BLACK = 8  # a frame without any brighter value is black
# A frame that encodes to less than this share of the median, beside the tables of a JPEG, is decoded as well.
SUSPICIOUS_SIZE, JPEG_TABLES = 0.5, 620
FROZEN_STEPS = 5  # so many steps with motion between equal frames are a frozen video
# Dark and coloured pixels: wood, cardboard, skin and leather are warm, and few dark things are blue. Coloured: the
# channels differ by more than a fifth of the highest.
DARK, COLOURED = 150, 5


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
    sizes = [max(len(frame) - JPEG_TABLES, 0) for frame in frames]
    least = SUSPICIOUS_SIZE * median(sizes)
    return sorted({*spaced.tolist(), *(t for t, size in enumerate(sizes) if size < least)})


def _warmth(image_HWC: np.ndarray) -> tuple[int, int]:
    red, green, blue = (image_HWC[..., channel].astype(np.int16) for channel in range(3))  # numpy is slow along 3
    high_HW = np.maximum(np.maximum(red, green), blue)
    low_HW = np.minimum(np.minimum(red, green), blue)
    chosen_HW = (high_HW < DARK) & (COLOURED * (high_HW - low_HW) > high_HW) & (high_HW >= BLACK)
    return int(np.count_nonzero(chosen_HW)), int(np.count_nonzero(chosen_HW & (red > blue)))


def _frozen_steps(frames: Sequence[bytes], moves_T: np.ndarray) -> int:
    """Most steps during which the robot moved and the picture did not, in a row but for its pauses."""
    most = current = 0
    for t in range(1, len(frames)):
        current = current + int(moves_T[t - 1]) if frames[t] == frames[t - 1] else 0
        most = max(most, current)
    return most
