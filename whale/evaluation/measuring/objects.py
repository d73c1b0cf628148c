"""Do things keep colour and number? Coloured areas of imagined frames, matched one to one with the recorded ones.

A red ball that turns orange costs little PSNR and ruins the picture. An area is connected pixels of one hue; hues are
told apart where training frames show least of any. What is grey or white is not counted. Truth is the recorded frame.
Shapes: M frames, B windows, h horizon, R resolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from whale.evaluation.measuring.rollouts.heldout import Windows
from whale.evaluation.numbers.bootstrap import ratio_interval

CHROMA = 64  # of 255, largest minus smallest channel: below it a pixel is grey
SMALLEST = 0.004  # of a frame's pixels; smaller areas are edges
NEAR = 0.125  # of a frame's width; an area further away is another thing
ALIKE = 2.0  # how much larger or smaller the same thing may be
HUES, VALLEY = 180, 0.5  # OpenCV counts hues to 180


@dataclass(frozen=True)
class Areas:
    """Of one frame: hue number int [K], center [K, 2] in pixels, size [K] in pixels."""

    hue: np.ndarray
    center: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.hue)


def hue_borders(frames: np.ndarray) -> np.ndarray:
    """Hues at which one colour of these frames ends and the next begins: sorted int [K]. uint8 [M, R, R, 3].

    Two peaks of the histogram are two colours if what lies between them falls below VALLEY of the lower one.
    """
    hue, chroma = _hue_and_chroma(frames.reshape(-1, *frames.shape[-2:]))
    counts = np.sqrt(np.bincount(hue[chroma >= CHROMA], minlength=HUES))  # the root: small things count, too
    height = (np.roll(counts, 1) + counts + np.roll(counts, -1)) / 3
    colour, borders = np.full(HUES, -1), []  # a colour's name is the hue of its peak
    for at in np.argsort(-height, kind="stable"):
        beside = sorted({int(colour[(at + step) % HUES]) for step in (-1, 1)} - {-1}, key=lambda peak: height[peak])
        colour[at] = beside[-1] if beside else at
        if len(beside) == 2:
            if height[at] > VALLEY * height[beside[0]]:
                colour[colour == beside[0]] = beside[1]
            else:
                borders.append(int(at))
    return np.array(sorted(borders), np.int64)


def areas(frame: np.ndarray, borders: np.ndarray) -> Areas:
    """The coloured areas of a frame uint8 [R, R, 3]."""
    hue, chroma = _hue_and_chroma(frame)
    number = np.searchsorted(borders, hue, side="right") % max(len(borders), 1)  # the circle closes
    found: list[tuple[int, np.ndarray, int]] = []
    for each in range(max(len(borders), 1)):
        mask = ((chroma >= CHROMA) & (number == each)).astype(np.uint8)
        _, _, stats, centers = cv2.connectedComponentsWithStats(mask, connectivity=8)
        for stat, center in zip(stats[1:], centers[1:], strict=True):
            if stat[cv2.CC_STAT_AREA] >= SMALLEST * mask.size:
                found.append((each, center, int(stat[cv2.CC_STAT_AREA])))
    return Areas(
        np.array([hue for hue, _, _ in found], np.int64),
        np.array([center for _, center, _ in found]).reshape(-1, 2),
        np.array([size for _, _, size in found], np.int64),
    )


def matched(recorded: Areas, imagined: Areas, width: int) -> int:
    """How many recorded areas have one of their own in the imagined frame: of its hue, near it, of like size."""
    distance = np.linalg.norm(recorded.center[:, None] - imagined.center[None], axis=-1)
    ratio = recorded.size[:, None] / np.maximum(imagined.size[None], 1)
    fits = (recorded.hue[:, None] == imagined.hue[None]) & (distance <= NEAR * width)
    fits &= (ratio <= ALIKE) & (ratio >= 1 / ALIKE)
    left, pairs = np.where(fits, distance, np.inf), 0
    while left.size and np.isfinite(left.min()):  # the closest pair first
        row, column = np.unravel_index(left.argmin(), left.shape)
        left[row], left[:, column], pairs = np.inf, np.inf, pairs + 1
    return pairs


def counted(borders: np.ndarray, recorded: np.ndarray, imagined: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of each frame the coloured areas recorded, imagined, and recorded ones that are imagined, too: int64 [B, h] each.

    recorded, imagined: uint8 [B, h, R, R, 3].
    """
    found = np.zeros((3, *recorded.shape[:2]), np.int64)
    for place in np.ndindex(*recorded.shape[:2]):
        true, other = areas(recorded[place], borders), areas(imagined[place], borders)
        found[:, *place] = len(true), len(other), matched(true, other, recorded.shape[-2])
    return tuple(found)


def object_metrics(
    borders: np.ndarray, frames: Mapping[str, np.ndarray], name: str, windows: Windows, horizons: list[int],
    rng: np.random.Generator, resamples: int,
) -> dict[str, object]:  # fmt: skip
    """At each horizon `objects_kept`, the share of recorded areas that variant `name` shows too, with interval.

    Beside it the same of `copy_last`, and of `tokenizer` where it is among the frames; `objects_added`: areas without
    a recorded one, over the number of recorded ones. frames: uint8 [B, h, R, R, 3] each.
    """
    metrics: dict[str, object] = {}
    for horizon in horizons:
        at, recorded = f"h{horizon}", windows.frames[:, horizon, None]
        found = {
            variant: [each[:, 0] for each in counted(borders, recorded, frames[variant][:, horizon - 1, None])]
            for variant in [name, *({"copy_last", "tokenizer"} & frames.keys())]
        }
        count, shown, _ = found[name]
        if not count.any():
            metrics[f"{at}.objects_status"] = "no coloured areas"
            continue
        kept = {variant: each for variant, (_, _, each) in found.items()}
        share = ratio_interval(kept[name], count, windows.episode, rng, resamples)
        lead = ratio_interval(kept[name] - kept["copy_last"], count, windows.episode, rng, resamples)
        metrics |= share.as_metrics(f"{at}.objects_kept") | lead.as_metrics(f"{at}.objects_kept_above_copy_last")
        total = int(count.sum())
        for other in sorted(kept.keys() - {name}):
            metrics[f"{at}.objects_kept_{other}"] = int(kept[other].sum()) / total
        metrics[f"{at}.objects_added"] = (int(shown.sum()) - int(kept[name].sum())) / total
    return metrics


def _hue_and_chroma(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's hue 0..179 and largest minus smallest channel, both [H, W]. uint8 [H, W, 3]."""
    hue: np.ndarray = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2HSV)[..., 0]
    return hue.astype(np.int64), frame.max(axis=-1).astype(np.int16) - frame.min(axis=-1)
