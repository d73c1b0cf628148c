"""Do actions describe the motion that the robot measured? Sums over steps that merge by addition.

One direction only: motion[t] = pose[t + 1] - pose[t] is compared with action[t - lag]. Lag 0 is the contract (action[t]
leads from observation[t] to observation[t + 1]); lag 1: motion follows one step late.

No single step and no single episode decides: every episode is measured by its own scale (so one in millimetres counts
like the others), values far beyond that scale are cut to it, and steps that no arm can do are left out and counted.
Shapes: T steps, L lags, P pairs of an action dimension with a measured motion, S sums, B bins.
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
DIMENSIONS = [dimension for _, dimension in PAIRS]  # of the action, pair by pair
ANGLES, ROTATION = slice(3, 6), slice(6, 9)
N, SUM_A, SUM_B, SUM_AA, SUM_BB, SUM_AB = range(6)
# Smaller motions are noise of the sensor: half a millimetre, 0.3 degrees.
LEAST_MOTION = np.array([5.0e-4] * 3 + [5.0e-3] * 6)
# Larger ones are jumps of the sensor, whatever the robot: a metre, 2.5 rad within one step.
MOST_MOTION = np.array([1.0] * 3 + [2.5] * 6)
SCALE_QUANTILE, CUT = 0.9, 3.0  # an episode's scale is this quantile; values are cut at so many times it
LEAST_SHARE_OF_SCALE = 0.05  # of the largest of x, y, z (or of the angles): what is smaller in an episode is rounding
DECADES, PER_DECADE = 4, 40  # bins of motion per command: 1e-4 to 1e4
BINS = 2 * DECADES * PER_DECADE + 1
GRIPPER_EVENT = 0.5  # a command that changes by this much is an event
GRIPPER_ANSWER = 0.05  # so much of its stroke must the opening change to be an answer
STROKE = 0.08  # metres: an opening that moves less within an episode is not taken for the whole stroke


@dataclass(frozen=True)
class MotionSums:
    """Sums over the steps of any number of episodes; `+` merges. Action and motion are in units of their episode.

    lagged (L, P, 6): count, sum a, b, aa, bb, ab of action and motion; level (6, 6): of action and the pose itself.
    cross (6, 9): sum a b at lag 0, every action dimension with every motion. moving (P,): steps beyond LEAST_MOTION.
    wild (1,): steps beyond MOST_MOTION, which are in no sum. gains (P, B): moving steps by log10 of motion per command.
    gripper (5, 6): command against opening at lags 0 to 4. answers (2,): events that the opening followed, opposed.
    """

    steps: np.ndarray
    wild: np.ndarray
    moving: np.ndarray
    gains: np.ndarray
    lagged: np.ndarray
    cross: np.ndarray
    level: np.ndarray
    gripper: np.ndarray
    answers: np.ndarray

    @classmethod
    def zero(cls) -> Self:
        return cls(
            steps=np.zeros(1), wild=np.zeros(1), moving=np.zeros(NUM_PAIRS), gains=np.zeros((NUM_PAIRS, BINS)),
            lagged=np.zeros((len(LAGS), NUM_PAIRS, 6)),
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
    wild_T9 = np.abs(motion_T9) > MOST_MOTION  # NaN is not
    motion_T9[wild_T9] = np.nan
    moving_T9 = np.isfinite(motion_T9) & (np.abs(motion_T9) > LEAST_MOTION)
    scale_6, scale_9 = _command_scale(action_T6[:-1]), np.maximum(_scale(motion_T9, LEAST_MOTION), LEAST_MOTION)
    a_T6, b_T9 = _cut(action_T6[:-1], scale_6), _cut(motion_T9, scale_9)
    a_TP = a_T6[:, DIMENSIONS]
    moving_T9 &= np.isfinite(a_TP)
    moving_P = moving_T9.sum(axis=0, dtype=np.float64)
    return MotionSums(
        steps=np.array([float(moving_T9.any(axis=1).sum())]),
        wild=np.array([float(wild_T9.any(axis=1).sum())]),
        moving=moving_P,
        gains=_gains(scale_9, scale_6[DIMENSIONS], moving_P),
        lagged=_lagged_sums(a_TP, b_T9, LAGS),
        cross=np.nan_to_num(a_T6).T @ np.nan_to_num(b_T9),
        level=_lagged_sums(_centred(action_T6), _centred(pose_T6), (0,))[0],
        gripper=_lagged_sums(command_T[:, None], opening_T[:, None], GRIPPER_LAGS)[:, 0],
        answers=_answers(command_T, opening_T),
    )


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


def motion_per_command(sums: MotionSums, lag: int, pair: int) -> float:
    """What one unit of action moves: sum ab / sum aa at LAGS[lag], times the median over episodes of their scales.

    0 without action; exact to half a bin of `gains` (3 %).
    """
    squares, weights_B = sums.lagged[lag, pair, SUM_AA], sums.gains[pair].cumsum()
    if squares <= 0 or weights_B[-1] <= 0:
        return 0.0
    middle = int(np.searchsorted(weights_B, weights_B[-1] / 2))
    gain = 10.0 ** (middle / PER_DECADE - DECADES)
    return float(sums.lagged[lag, pair, SUM_AB] / squares * gain)


def _scale(x_TD: np.ndarray, least_D: np.ndarray | float = 0.0) -> np.ndarray:
    """(D,) the quantile SCALE_QUANTILE of the |x| beyond `least`; 0 for a column without any."""
    if not len(x_TD):
        return np.zeros(x_TD.shape[1])
    size_TD = np.abs(x_TD)
    counted_TD = size_TD > least_D
    counts_D = counted_TD.sum(axis=0)
    ordered_TD = np.sort(np.where(counted_TD, size_TD, np.inf), axis=0)
    place_D = np.maximum(np.ceil(SCALE_QUANTILE * counts_D).astype(int) - 1, 0)
    return np.where(counts_D > 0, ordered_TD[place_D, np.arange(x_TD.shape[1])], 0.0)


def _command_scale(action_T6: np.ndarray) -> np.ndarray:
    """(6,) of an action, whose unit nobody knows: nothing is smaller than a share of its neighbours."""
    scale_23 = _scale(action_T6).reshape(2, 3)
    return np.maximum(scale_23, LEAST_SHARE_OF_SCALE * scale_23.max(axis=1, keepdims=True)).ravel()


def _cut(x_TD: np.ndarray, scale_D: np.ndarray) -> np.ndarray:
    """In units of `scale`, at most CUT; 0 where the scale is."""
    return np.clip(x_TD / np.where(scale_D > 0, scale_D, np.inf), -CUT, CUT)


def _centred(x_TD: np.ndarray) -> np.ndarray:
    """In units of the episode's scale around its median."""
    ordered_TD = np.sort(x_TD, axis=0)  # NaN last
    middle_D = np.maximum(np.isfinite(x_TD).sum(axis=0) - 1, 0) // 2
    x_TD = x_TD - ordered_TD[middle_D, np.arange(x_TD.shape[1])]
    return _cut(x_TD, _scale(x_TD))


def _gains(motion_P: np.ndarray, command_P: np.ndarray, moving_P: np.ndarray) -> np.ndarray:
    """(P, B) the moving steps of one episode, in the bin of its motion per command."""
    gains_PB = np.zeros((NUM_PAIRS, BINS))
    known_P = (moving_P > 0) & (command_P > 0)
    ratio_P = np.where(known_P, motion_P / np.where(known_P, command_P, 1.0), 1.0)
    bin_P = np.clip(np.round((np.log10(ratio_P) + DECADES) * PER_DECADE), 0, BINS - 1).astype(int)
    gains_PB[np.arange(NUM_PAIRS), bin_P] = np.where(known_P, moving_P, 0.0)
    return gains_PB


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
    # In whatever unit the sensor reads (metres, 0 to 1, 0 to 255): of the range it goes through, but for single jumps.
    ordered_T = np.sort(opening_T)
    spare = len(ordered_T) // 20
    least = GRIPPER_ANSWER * max(float(ordered_T[-1 - spare] - ordered_T[spare]), STROKE)
    return np.array([(answer > least).sum(), (answer < -least).sum()], np.float64)
