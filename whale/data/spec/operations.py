"""The nine operations a dataset spec may apply to one part of an action: pure functions in one table.

Each takes float64 (T, D) and named arguments, and returns a new float64 (T, D'). They know nothing of datasets.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError, create_model

from whale.common.config import Config
from whale.data.spec import rotations

Numbers = float | list[float]
Orientation = Literal[
    "quat_xyzw", "quat_wxyz", "axis_angle", "euler_xyz", "euler_xzy", "euler_yxz", "euler_yzx", "euler_zxy", "euler_zyx"
]


def pick(x_TD: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Columns start to stop - 1. (The key and slice of a part are a pick as well; a scalar becomes (T, 1).)"""
    if not 0 <= start < stop <= x_TD.shape[1]:
        raise ValueError(f"slice [{start}, {stop}] of {x_TD.shape[1]} columns")
    return x_TD[:, start:stop].copy()


def fill(x_TD: np.ndarray, value: float, width: int) -> np.ndarray:
    """Append constant columns until there are `width` (the z of a planar robot)."""
    missing = width - x_TD.shape[1]
    if missing < 0:
        raise ValueError(f"fill to {width} columns, but there are {x_TD.shape[1]} already")
    return np.concatenate([x_TD, np.full((len(x_TD), missing), value)], axis=1)


def scale(x_TD: np.ndarray, factor: Numbers = 1.0, offset: Numbers = 0.0) -> np.ndarray:
    """x * factor + offset, numbers or one number per column (mm -> m, degrees -> rad)."""
    return x_TD * np.asarray(factor, np.float64) + np.asarray(offset, np.float64)


def clip(x_TD: np.ndarray, low: Numbers, high: Numbers) -> np.ndarray:
    return np.clip(x_TD, low, high)


def invert(x_TD: np.ndarray) -> np.ndarray:
    """1 - x: closed = 1 becomes open = 1."""
    return 1.0 - x_TD


def binarize(x_TD: np.ndarray, open: float = 0.95, closed: float = 0.05) -> np.ndarray:
    """Above `open` 1, below `closed` 0, between takes the NEXT decided value.

    An undecided tail keeps its last raw value, as OpenVLA's binarize_gripper_actions does.
    """
    decided_TD = (x_TD > open) | (x_TD < closed)
    value_TD = np.where(decided_TD, (x_TD > open).astype(np.float64), x_TD[-1:])
    backwards_TD = _forward_fill(value_TD[::-1], decided_TD[::-1], start_D=x_TD[-1] if len(x_TD) else None)
    return backwards_TD[::-1].copy()


def relative_to_absolute(x_TD: np.ndarray, threshold: float = 0.1) -> np.ndarray:
    """Closing commands (> threshold) -> 0, opening ones (< -threshold) -> 1, from that step on; else hold.

    Before the first command its opposite holds; without any command the gripper is open (1).
    """
    event_TD = np.abs(x_TD) > threshold
    value_TD = (x_TD < 0.0).astype(np.float64)
    first_D = event_TD.argmax(axis=0)
    opposite_D = 1.0 - value_TD[first_D, np.arange(x_TD.shape[1])]
    return _forward_fill(value_TD, event_TD, start_D=np.where(event_TD.any(axis=0), opposite_D, 1.0))


def to_euler(x_TD: np.ndarray, form: Orientation) -> np.ndarray:
    """Quaternion, axis-angle or Euler angles of another (extrinsic) order -> roll pitch yaw (T, 3) in (-pi, pi]."""
    return rotations.to_rpy(_matrices(x_TD, form))


def difference(
    x_TD: np.ndarray,
    wrap: bool = False,
    kind: Literal["value", "rotation"] = "value",
    form: Orientation | None = None,
) -> np.ndarray:
    """What the robot did between t and t + 1: x[t + 1] - x[t]; the last step is undefined (NaN).

    wrap: angles, to (-pi, pi]. kind rotation: R[t + 1] R[t]^T as roll pitch yaw, from what `form` says; where it says
    nothing, 4 columns are quaternions x y z w and 3 are roll pitch yaw.
    """
    if kind == "rotation":
        R_T33 = _matrices(x_TD, form or ("quat_xyzw" if x_TD.shape[1] == 4 else "euler_xyz"))
        step_TD = rotations.to_rpy(R_T33[1:] @ R_T33[:-1].transpose(0, 2, 1))
    else:
        step_TD = x_TD[1:] - x_TD[:-1]
    if wrap:
        step_TD = rotations.wrap_angle(step_TD)
    return np.concatenate([step_TD, np.full((min(len(x_TD), 1), step_TD.shape[1]), np.nan)])


OPERATIONS: Mapping[str, Callable[..., np.ndarray]] = {
    function.__name__: function
    for function in (pick, fill, scale, clip, invert, binarize, relative_to_absolute, to_euler, difference)
}


def check_operation(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, defaults filled in; ValueError for an unknown operation or wrong arguments, with the nearest."""
    if name not in OPERATIONS:
        near = difflib.get_close_matches(name, OPERATIONS, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(OPERATIONS)}"
        raise ValueError(f"unknown operation '{name}'; {hint}")
    try:
        return _arguments_model(name).model_validate(dict(arguments)).model_dump(exclude_none=True)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_url=False)]
        raise ValueError(f"operation '{name}': {'; '.join(problems)}") from None


def apply_operation(x_TD: np.ndarray, name: str, arguments: Mapping[str, Any]) -> np.ndarray:
    return OPERATIONS[name](np.asarray(x_TD, np.float64), **arguments)


@cache
def _arguments_model(name: str) -> type[Config]:
    parameters = list(inspect.signature(OPERATIONS[name]).parameters.values())[1:]
    fields: dict[str, Any] = {
        p.name: (p.annotation, ... if p.default is inspect.Parameter.empty else p.default) for p in parameters
    }
    return create_model(f"{name}_arguments", __base__=Config, **fields)


def _forward_fill(value_TD: np.ndarray, decided_TD: np.ndarray, start_D: np.ndarray | None) -> np.ndarray:
    """Each undecided entry takes the last decided one before it, or `start_D` if there is none."""
    if not len(value_TD):
        return value_TD.copy()
    step_T1 = np.arange(1, len(value_TD) + 1)[:, None]
    last_TD = np.maximum.accumulate(np.where(decided_TD, step_T1, 0), axis=0)
    padded = np.concatenate([np.asarray(start_D)[None], value_TD])
    return np.take_along_axis(padded, last_TD, axis=0)


def _matrices(x_TD: np.ndarray, form: str) -> np.ndarray:
    expected = 4 if form.startswith("quat_") else 3
    if x_TD.shape[1] != expected:
        raise ValueError(f"{form} needs {expected} columns, found {x_TD.shape[1]}")
    if form == "quat_xyzw":
        return rotations.from_quat_xyzw(x_TD)
    if form == "quat_wxyz":
        return rotations.from_quat_wxyz(x_TD)
    if form == "axis_angle":
        return rotations.from_axis_angle(x_TD)
    return rotations.from_euler(x_TD, form.removeprefix("euler_"))
