"""Do actions describe the motion that the robot measured? Sums over steps that merge by addition.

One direction only: motion[t] = pose[t + 1] - pose[t] is compared with action[t - lag]. Lag 0 is the contract (action[t]
leads from observation[t] to observation[t + 1]); lag 1: motion follows one step late.
Shapes: T steps, L lags, P pairs of an action dimension with a measured motion, S sums.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from whale.data.spec import rotations

LAGS = tuple(range(-3, 4))
GRIPPER_LAGS = tuple(range(5))
# Roll, pitch and yaw are compared in two conventions: as differences of angles, and as the rotation R[t + 1] R[t]^T.
# Which one a dataset means is not written in it; the one that explains more is believed.
PAIRS = tuple((name, dimension) for dimension, name in enumerate(("x", "y", "z", "roll", "pitch", "yaw")))
PAIRS += (("roll", 3), ("pitch", 4), ("yaw", 5))
NUM_DIMENSIONS, NUM_PAIRS = 6, len(PAIRS)
ANGLES, ROTATION = slice(3, 6), slice(6, 9)
N, SUM_A, SUM_B, SUM_AA, SUM_BB, SUM_AB = range(6)
# Smaller motions are noise of the sensor: half a millimetre, 0.3 degrees.
LEAST_MOTION = np.array([5.0e-4] * 3 + [5.0e-3] * 6)
GRIPPER_EVENT = 0.5  # a command that changes by this much is an event
GRIPPER_ANSWER = 0.05  # so much of its stroke must the opening change to be an answer
METRES, STROKE = 0.25, 0.08  # a sensor that never reads more reports the width in metres; strokes are near 8 cm


@dataclass(frozen=True)
class MotionSums:
    """Sums over the steps of any number of episodes; `+` merges.

    lagged (L, P, 6): count, sum a, b, aa, bb, ab of action and motion; level (6, 6): of action and the pose itself.
    cross (6, 9): sum a b at lag 0, every action dimension with every motion. moving (P,): steps beyond LEAST_MOTION.
    gripper (5, 6): command against opening at lags 0 to 4. answers (2,): events that the opening followed, opposed.
    """

    steps: np.ndarray
    moving: np.ndarray
    lagged: np.ndarray
    cross: np.ndarray
    level: np.ndarray
    gripper: np.ndarray
    answers: np.ndarray

    @classmethod
    def zero(cls) -> Self:
        return cls(
            steps=np.zeros(1), moving=np.zeros(NUM_PAIRS), lagged=np.zeros((len(LAGS), NUM_PAIRS, 6)),
            cross=np.zeros((NUM_DIMENSIONS, NUM_PAIRS)), level=np.zeros((NUM_DIMENSIONS, 6)),
            gripper=np.zeros((len(GRIPPER_LAGS), 6)), answers=np.zeros(2),
        )  # fmt: skip

    def __add__(self, other: "MotionSums") -> "MotionSums":
        return MotionSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name).tolist() for f in fields(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        return cls(**{name: np.asarray(value, np.float64) for name, value in values.items()})


def measure_motion(
    action_T6: np.ndarray, valid_T: np.ndarray, pose_T6: np.ndarray, command_T: np.ndarray, opening_T: np.ndarray
) -> MotionSums:
    """Sums of one episode. NaN marks what is not measured: a column of the pose (a planar robot), the whole opening.

    pose: xyz (m) and roll pitch yaw (rad); command: the gripper's, 1 = open; opening: its sensor, rising when it opens.
    """
    if not np.isfinite(pose_T6).any() and not np.isfinite(opening_T).any():
        return MotionSums.zero()  # nothing is measured, nothing adds up
    action_T6 = np.where(valid_T[:, None], action_T6, np.nan).astype(np.float64)
    motion_T9 = np.where(valid_T[:-1, None], motion(pose_T6), np.nan)
    a_TP = action_T6[:-1, [dimension for _, dimension in PAIRS]]
    known_T9 = np.isfinite(motion_T9) & np.isfinite(a_TP)
    moving_T9 = known_T9 & (np.abs(np.nan_to_num(motion_T9)) > LEAST_MOTION)
    return MotionSums(
        steps=np.array([float(moving_T9.any(axis=1).sum())]),
        moving=moving_T9.sum(axis=0, dtype=np.float64),
        lagged=_lagged_sums(a_TP, motion_T9, LAGS),
        cross=np.nan_to_num(action_T6[:-1]).T @ np.nan_to_num(motion_T9),
        level=_lagged_sums(action_T6, pose_T6, (0,))[0],
        gripper=_lagged_sums(command_T[:, None], opening_T[:, None], GRIPPER_LAGS)[:, 0],
        answers=_answers(command_T, opening_T),
    )  # fmt: skip


def motion(pose_T6: np.ndarray) -> np.ndarray:
    """(T - 1, 9): xyz differences, wrapped differences of roll pitch yaw, roll pitch yaw of R[t + 1] R[t]^T."""
    difference_T6 = np.diff(pose_T6, axis=0)
    turn_T3 = np.full((len(difference_T6), 3), np.nan)
    if np.isfinite(pose_T6[:, 3:]).all():
        R_T33 = rotations.from_euler(pose_T6[:, 3:])
        turn_T3 = rotations.to_rpy(R_T33[1:] @ R_T33[:-1].transpose(0, 2, 1))
    return np.concatenate([difference_T6[:, :3], rotations.wrap_angle(difference_T6[:, 3:]), turn_T3], axis=1)


def correlations(sums: np.ndarray) -> np.ndarray:
    """(..., 6) sums -> (...) correlation; 0 where a side does not vary."""
    n = np.maximum(sums[..., N], 1.0)
    covariance = sums[..., SUM_AB] - sums[..., SUM_A] * sums[..., SUM_B] / n
    variance_a = np.maximum(sums[..., SUM_AA] - sums[..., SUM_A] ** 2 / n, 0.0)
    variance_b = np.maximum(sums[..., SUM_BB] - sums[..., SUM_B] ** 2 / n, 0.0)
    # Relative to the plain sums of squares: what is left of a constant after rounding is no variation.
    varies = (variance_a > 1.0e-12 * sums[..., SUM_AA]) & (variance_b > 1.0e-12 * sums[..., SUM_BB])
    scale = np.sqrt(np.where(varies, variance_a * variance_b, 1.0))
    return np.where(varies, covariance / np.where(scale > 0, scale, 1.0), 0.0)


def cosines(sums: MotionSums) -> np.ndarray:
    """(6, 9): how much each action dimension is along each motion at lag 0; 0 where one is always zero."""
    lag_zero = sums.lagged[LAGS.index(0)]
    scale_69 = np.sqrt(np.outer(lag_zero[:NUM_DIMENSIONS, SUM_AA], lag_zero[:, SUM_BB]))
    return np.where(scale_69 > 0, sums.cross / np.where(scale_69 > 0, scale_69, 1.0), 0.0)


def slopes(sums: np.ndarray) -> np.ndarray:
    """(..., 6) sums -> (...) what one unit of action moves: sum ab / sum aa; 0 without action."""
    return np.where(sums[..., SUM_AA] > 0, sums[..., SUM_AB] / np.where(sums[..., SUM_AA] > 0, sums[..., SUM_AA], 1), 0)


def _lagged_sums(a_TD: np.ndarray, b_TD: np.ndarray, lags: tuple[int, ...]) -> np.ndarray:
    """(L, D, 6): a[t] against b[t + lag] for every lag at once; rows where one of them is NaN do not count."""
    pad = max(abs(lag) for lag in lags)
    padded = np.full((len(b_TD) + 2 * pad, b_TD.shape[1]), np.nan)
    padded[pad : pad + len(b_TD)] = b_TD
    b_LTD = padded[np.arange(len(a_TD)) + pad + np.array(lags)[:, None]]
    known_LTD = np.isfinite(b_LTD) & np.isfinite(a_TD)
    a_LTD, b_LTD = np.where(known_LTD, a_TD, 0.0), np.where(known_LTD, b_LTD, 0.0)
    products = (known_LTD, a_LTD, b_LTD, a_LTD * a_LTD, b_LTD * b_LTD, a_LTD * b_LTD)
    return np.stack([product.sum(axis=1) for product in products], axis=-1).astype(np.float64)


def _answers(command_T: np.ndarray, opening_T: np.ndarray) -> np.ndarray:
    """How many changes of the command the opening followed, and how many it opposed, within the lags looked at."""
    if not np.isfinite(opening_T).all() or len(command_T) < 2:
        return np.zeros(2)
    events = np.flatnonzero(np.abs(np.diff(command_T)) > GRIPPER_EVENT) + 1
    later = np.minimum(events + GRIPPER_LAGS[-1], len(opening_T) - 1)
    answer = (opening_T[later] - opening_T[events]) * np.sign(command_T[events] - command_T[events - 1])
    least = GRIPPER_ANSWER * (1.0 if np.abs(opening_T).max() > METRES else STROKE)
    return np.array([(answer > least).sum(), (answer < -least).sum()], np.float64)
