"""What goes wrong in real recordings, done to a raw episode on purpose: to measure who notices.

Every function takes steps (flattened name -> (T, ...) array or list) and returns new ones; names of the columns are
arguments, because every robot of the fleet records in its own convention. Shapes: T steps, H W image.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Steps = Mapping[str, Any]


@dataclass(frozen=True)
class Columns:
    """Columns start to stop - 1 of one feature (a feature without columns is one column)."""

    key: str
    start: int
    stop: int

    def change(self, steps: Steps, function: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
        """`steps` with these columns replaced by `function` of them."""
        values = np.array(steps[self.key])
        columns_TD = values[:, None] if values.ndim == 1 else values
        columns_TD[:, self.start : self.stop] = function(columns_TD[:, self.start : self.stop].copy())
        return {**steps, self.key: values}


def flip_sign(steps: Steps, columns: Columns, dimension: int) -> dict[str, Any]:
    """One direction reversed."""
    sign_D = np.where(np.arange(columns.stop - columns.start) == dimension, -1.0, 1.0)
    return columns.change(steps, lambda x_TD: x_TD * sign_D)


def rescale(steps: Steps, columns: Columns, factor: float) -> dict[str, Any]:
    """Another unit than the one that is claimed."""
    return columns.change(steps, lambda x_TD: x_TD * factor)


def delay(steps: Steps, columns: Columns, num_steps: int) -> dict[str, Any]:
    """Recorded `num_steps` late; what came first is repeated."""
    return columns.change(steps, lambda x_TD: np.concatenate([np.repeat(x_TD[:1], num_steps, 0), x_TD[:-num_steps]]))


def swap(steps: Steps, columns: Columns) -> dict[str, Any]:
    """The first two columns exchanged: keys shuffled on the way."""
    return columns.change(steps, lambda x_TD: np.concatenate([x_TD[:, 1::-1], x_TD[:, 2:]], axis=1))


def invert_gripper(steps: Steps, columns: Columns, is_relative: bool) -> dict[str, Any]:
    """Open means closed."""
    return columns.change(steps, lambda x_TD: -x_TD if is_relative else 1.0 - x_TD)


def truncate(steps: Steps, num_steps: int) -> dict[str, Any]:
    """Cut off after `num_steps`."""
    return {key: values[:num_steps] for key, values in steps.items()}


def exchange_red_and_blue(frames_THWC: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frames_THWC[..., ::-1])


def freeze(frames: list[bytes], start: int, length: int) -> list[bytes]:
    """`length` frames that all show the first of them."""
    return [frames[start] if start <= t < start + length else frame for t, frame in enumerate(frames)]


def blacken(frames: list[bytes], black: bytes, which: list[int]) -> list[bytes]:
    """Frames that are nothing but `black`."""
    return [black if t in which else frame for t, frame in enumerate(frames)]
