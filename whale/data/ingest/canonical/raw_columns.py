"""Features of a raw episode as numbers: the one way canonical actions, states and checks read them.

Shapes: T steps, D columns.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from whale.data.spec.episode import EpisodeError, RawEpisode
from whale.data.spec.operations import Orientation, to_euler
from whale.data.spec.spec import UNIT_FACTORS, State

ORIENTATIONS: dict[str, Orientation | None] = {"xyz_rpy": None} | {
    f"xyz_{form}": form for form in get_args(Orientation)
}


def step_feature(raw: RawEpisode, key: str) -> np.ndarray | Sequence[bytes]:
    if key not in raw.steps:
        raise EpisodeError("missing_key", f"no step feature '{key}'")
    return raw.steps[key]


def columns(raw: RawEpisode, key: str, chosen: list[int]) -> np.ndarray:
    """float64 (T, D): columns of a numeric step feature; a scalar is one column."""
    values = step_feature(raw, key)
    if not isinstance(values, np.ndarray):
        raise EpisodeError("dtype_mismatch", f"'{key}' holds byte strings or images, expected numbers")
    x_TD = values[:, None] if values.ndim == 1 else values
    start, stop = chosen
    if x_TD.ndim != 2 or not 0 <= start < stop <= x_TD.shape[1]:
        raise EpisodeError("shape_mismatch", f"'{key}' has shape {values.shape}, the spec takes columns {chosen}")
    return x_TD[:, start:stop].astype(np.float64)


def measured_pose(raw: RawEpisode, state: State) -> np.ndarray:
    """(T, 6) xyz in metres, roll pitch yaw in radians; NaN where the robot does not measure."""
    pose_TD = columns(raw, state.pose.key, state.pose.slice)
    units = [UNIT_FACTORS.get(unit, 1.0) for unit in state.pose.units]
    pose_T6 = np.full((len(pose_TD), 6), np.nan)
    if state.pose.form in ("xy", "xyz"):
        _require_width(pose_TD, len(state.pose.form), state)
        pose_T6[:, : pose_TD.shape[1]] = pose_TD * units[0]
        return pose_T6
    orientation = ORIENTATIONS[state.pose.form]
    is_quaternion = (orientation or "").startswith("quat_")
    _require_width(pose_TD, 7 if is_quaternion else 6, state)
    pose_T6[:, :3] = pose_TD[:, :3] * units[0]
    turn_TD = pose_TD[:, 3:] if is_quaternion else pose_TD[:, 3:] * units[-1]
    try:
        pose_T6[:, 3:] = to_euler(turn_TD, orientation) if orientation else turn_TD
    except ValueError as error:
        raise EpisodeError("shape_mismatch", f"state '{state.pose.key}': {error}") from None
    return pose_T6


def measured_opening(raw: RawEpisode, state: State) -> np.ndarray:
    """(T,) the gripper as its sensor reports it, rising when it opens if that is known; NaN without a sensor."""
    if state.gripper is None:
        return np.full(raw.num_steps, np.nan)
    opening_T = columns(raw, state.gripper.key, state.gripper.slice)[:, 0]
    return 1.0 - opening_T if state.gripper.rises_when == "close" else opening_T


def _require_width(pose_TD: np.ndarray, width: int, state: State) -> None:
    if pose_TD.shape[1] != width:
        detail = f"state '{state.pose.key}': {state.pose.form} needs {width} columns, the spec takes {pose_TD.shape[1]}"
        raise EpisodeError("shape_mismatch", detail)
