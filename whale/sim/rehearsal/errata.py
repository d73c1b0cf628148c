"""Faults that were published of the real datasets, planted in a rehearsal: name -> what is done to every Nth episode.

What makes up a whole dataset (poses where deltas are expected, BGR, code points, zlib) is no matter of episodes and
stands in its schema. An erratum changes what is recorded, never what happened, but for `unsuccessful` and `idle`.
"""

from collections.abc import Callable

import numpy as np

from whale.sim.rehearsal.recording import Encode, Raw
from whale.sim.rehearsal.schemas import Schema

EVERY = 5  # episodes 1, 6, 11, ... have it
IDLE = 0.6  # share of steps at which a robot that is often idle does nothing
FAR = 22.09  # world_vector of fractal where 98 % are within 0.15
OUTLIER_STEP, PITCH_STEP, TURN_STEP = 3, 2, 4
FEWEST_STEPS = 1 + max(OUTLIER_STEP, PITCH_STEP, TURN_STEP)  # of an episode, so that each has its place
WHOLE_TURN, PITCH = 2 * np.pi, 0.2


def has_it(number: int) -> bool:
    """Is this episode one of those with its dataset's errata?"""
    return number % EVERY == 1


def plant(schema: Schema, number: int, steps: Raw, encode: Encode) -> None:
    """Change the raw episode in place, if it is one of those."""
    if not has_it(number):
        return
    for name in schema.errata:
        if name in _PLANTED:
            _PLANTED[name](steps, encode)


def _outlier(steps: Raw, encode: Encode) -> None:
    """fractal (world_vector reaches 22.09), dobbe (xyz reaches 17144 times its q99)."""
    _actions(steps)[OUTLIER_STEP, 1] = FAR


def _black_secondary(steps: Raw, encode: Encode) -> None:
    """bridge: cameras that were not there are black frames."""
    height, width = 256, 256
    steps["observation/image_1"] = [encode("jpeg", np.zeros((height, width, 3), np.uint8))] * len(steps["is_first"])


def _no_instruction(steps: Raw, encode: Encode) -> None:
    """bridge, droid: part of the episodes has an empty instruction."""
    steps["language_instruction"] = [""] * len(steps["is_first"])


def _whole_turns(steps: Raw, encode: Encode) -> None:
    """nyu: roll jumps by whole turns of an unwrapped angle."""
    steps["action"][TURN_STEP, 10] += WHOLE_TURN


def _dead_pitch(steps: Raw, encode: Encode) -> None:
    """fanuc: pitch is always zero, but for a few steps."""
    steps["action"][PITCH_STEP, 4] = PITCH


def _actions(steps: Raw) -> np.ndarray:
    return steps["action/world_vector"] if "action/world_vector" in steps else steps["action"]


_PLANTED: dict[str, Callable[[Raw, Encode], None]] = {
    "outlier": _outlier,
    "black_secondary": _black_secondary,
    "no_instruction": _no_instruction,
    "whole_turns": _whole_turns,
    "dead_pitch": _dead_pitch,
}
WRITES = {  # features, of which each needs one; else it would change nothing
    "outlier": {"action", "action/world_vector"},
    "black_secondary": {"observation/image_1"},
    "no_instruction": {"language_instruction"},
    "whole_turns": {"action"},
    "dead_pitch": {"action"},
}
IN_THE_MOTION = {"unsuccessful", "idle"}
ERRATA = {*_PLANTED, *IN_THE_MOTION}
