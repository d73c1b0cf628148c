"""What a robot could record of its motion, by name: the right-hand sides of data_specs/rehearsal/schemas.yaml.

Shapes: T steps, k columns of one signal, A = 7.
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from whale.sim.rehearsal.motion import Motion
from whale.sim.rehearsal.schemas import Filling

BASE = np.array([0.5, 0.0, 0.1])  # of the table's middle, as the robot's base sees it
STROKE = 0.08  # metres between open fingers


def columns(filling: Filling, motion: Motion) -> np.ndarray:
    """(T, k) float64. Raises KeyError for a signal that there is none of."""
    width, ahead = filling.width or 1, filling.ahead or 1
    if filling.signal in CONSTANT:
        return np.full((len(motion), width), CONSTANT[filling.signal])
    if filling.signal == FILLER:
        return _filler(motion, width)
    values_Tk = SIGNALS[filling.signal](motion).reshape(len(motion), -1).astype(np.float64)
    if ahead > 1:
        resting = SIGNALS[filling.signal](_at_rest(motion)).reshape(1, -1)
        padded = np.concatenate([values_Tk, np.repeat(resting, ahead, axis=0)])
        steps = np.arange(len(motion))[:, None] + np.arange(ahead)
        values_Tk = padded[steps].reshape(len(motion), -1)
    return (1.0 if filling.factor is None else filling.factor) * values_Tk


def _at_rest(motion: Motion) -> Motion:
    """One step, the last: it stays where it is."""
    return Motion(motion.states.select(slice(-1, None)), motion.command_TA[-1:], motion.task, motion.number)


def _poses(motion: Motion) -> Rotation:
    return Rotation.from_euler("xyz", motion.states.pose[:, 3:])


def _rotated(motion: Motion) -> Rotation:
    """R[t + 1] R[t]^T, the turn that came of the step; none after the last."""
    poses = _poses(motion)
    return Rotation.concatenate([poses[1:] * poses[:-1].inv(), Rotation.identity(1)])


def _matrix(motion: Motion) -> np.ndarray:
    pose_T44 = np.tile(np.eye(4), (len(motion), 1, 1))
    pose_T44[:, :3, :3], pose_T44[:, :3, 3] = _poses(motion).as_matrix(), motion.states.pose[:, :3] + BASE
    return pose_T44


def _closing(motion: Motion) -> np.ndarray:
    """+1 where the command turns to closing, -1 where to opening; open before the first step."""
    return -np.diff(motion.command_TA[:, 6], prepend=1.0)


def _in_transit(motion: Motion) -> np.ndarray:
    """The command as a lever reports it: half way at the step before it changes; nothing at step 0."""
    lever_T = 0.02 + 0.96 * motion.command_TA[:, 6].astype(np.float64)
    lever_T[:-1][np.diff(lever_T) != 0.0] = 0.5
    lever_T[0] = 0.0
    return lever_T


def _is_last(motion: Motion) -> np.ndarray:
    return np.arange(len(motion)) == len(motion) - 1


def _terminate(motion: Motion) -> np.ndarray:
    """terminate, go on, wait: one of three."""
    last_T = _is_last(motion)
    return np.column_stack([last_T, ~last_T, np.zeros_like(last_T)])


def _filler(motion: Motion, width: int) -> np.ndarray:
    """Smooth numbers that no spec reads: joints, speeds, forces."""
    return np.sin(motion.states.pose[:, :6] @ np.linspace(0.5, 3.0, 6 * width).reshape(6, width))


FILLER = "filler"
CONSTANT = {"zeros": 0.0, "no": 0.0, "yes": 1.0}
SIGNALS: dict[str, Callable[[Motion], np.ndarray]] = {
    "xyz": lambda m: m.states.pose[:, :3] + BASE,
    "xy": lambda m: m.states.pose[:, :2] + BASE[:2],
    "rpy": lambda m: m.states.pose[:, 3:],
    "quat": lambda m: _poses(m).as_quat(),
    "axis_angle": lambda m: _poses(m).as_rotvec(),
    "matrix": _matrix,
    "delta": lambda m: m.command_TA[:, :3],
    "delta_xy": lambda m: m.command_TA[:, :2],
    "turn": lambda m: m.command_TA[:, 3:6],
    "rotated_rpy": lambda m: _rotated(m).as_euler("xyz"),
    "rotated_zxy": lambda m: _rotated(m).as_euler("zxy"),
    "rotated_quat": lambda m: _rotated(m).as_quat(),
    "rotated_axis_angle": lambda m: _rotated(m).as_rotvec(),
    "opening": lambda m: m.states.gripper,
    "closed": lambda m: 1.0 - m.states.gripper,
    "width": lambda m: STROKE * m.states.gripper,
    "command": lambda m: m.command_TA[:, 6],
    "closed_command": lambda m: 1.0 - m.command_TA[:, 6],
    "sign_open": lambda m: 2.0 * m.command_TA[:, 6] - 1.0,
    "sign_closed": lambda m: 1.0 - 2.0 * m.command_TA[:, 6],
    "closing": _closing,
    "transit": _in_transit,
    "terminate": _is_last,
    "terminate_one_hot": _terminate,
    "first": lambda m: np.arange(len(m)) == 0,
    "last": _is_last,
    "terminal": lambda m: _is_last(m) & m.success,
    "reward": lambda m: _is_last(m) & m.success,
    "success": lambda m: np.full(len(m), m.success),
    "number": lambda m: np.full(len(m), m.number),
}
