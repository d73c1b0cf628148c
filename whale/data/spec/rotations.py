"""Rotations as arrays: quaternions, axis-angle and Euler angles to matrices, matrices to roll pitch yaw.

Roll pitch yaw are extrinsic x, y, z: R = Rz(yaw) Ry(pitch) Rx(roll). Shapes: T steps; all float64, radians.
"""

import numpy as np

EULER_AXES = "xyz"
UNIT_NORM = 1.0e-2  # a quaternion's norm may be this far from 1


def wrap_angle(angle: np.ndarray) -> np.ndarray:
    """To (-pi, pi]."""
    return np.pi - np.mod(np.pi - angle, 2.0 * np.pi)


def from_quat_xyzw(quat_T4: np.ndarray) -> np.ndarray:
    """(T, 4) -> (T, 3, 3). q and -q give the same; a norm further than UNIT_NORM from 1 raises ValueError."""
    norm_T1 = np.linalg.norm(quat_T4, axis=1, keepdims=True)
    if len(norm_T1) and not (np.abs(norm_T1 - 1.0) < UNIT_NORM).all():
        raise ValueError(f"quaternion norm {norm_T1.ravel()[np.abs(norm_T1 - 1.0).argmax()]:.4f} is not 1")
    x, y, z, w = (quat_T4 / norm_T1).T
    return _matrix(
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )


def from_quat_wxyz(quat_T4: np.ndarray) -> np.ndarray:
    """The same with the scalar first, as MuJoCo, IsaacLab and others write it."""
    return from_quat_xyzw(np.roll(quat_T4, -1, axis=1))


def from_axis_angle(vector_T3: np.ndarray) -> np.ndarray:
    """(T, 3) axis times angle -> (T, 3, 3)."""
    angle_T1 = np.linalg.norm(vector_T3, axis=1, keepdims=True)
    axis_T3 = vector_T3 / np.where(angle_T1 > 0.0, angle_T1, 1.0)
    half_T1 = angle_T1 / 2.0
    return from_quat_xyzw(np.concatenate([axis_T3 * np.sin(half_T1), np.cos(half_T1)], axis=1))


def from_euler(angle_T3: np.ndarray, order: str = EULER_AXES) -> np.ndarray:
    """(T, 3) extrinsic rotations about the axes of `order`, first letter first -> (T, 3, 3)."""
    first, second, third = (_about(axis, angle_T3[:, i]) for i, axis in enumerate(order))
    return third @ second @ first


def to_rpy(matrix_T33: np.ndarray) -> np.ndarray:
    """(T, 3, 3) -> (T, 3) roll pitch yaw in (-pi, pi]; at gimbal lock yaw = 0."""
    m = matrix_T33
    horizontal_T = np.hypot(m[:, 0, 0], m[:, 1, 0])
    locked_T = horizontal_T < 1.0e-9
    roll_T = np.where(locked_T, np.arctan2(-m[:, 1, 2], m[:, 1, 1]), np.arctan2(m[:, 2, 1], m[:, 2, 2]))
    yaw_T = np.where(locked_T, 0.0, np.arctan2(m[:, 1, 0], m[:, 0, 0]))
    return wrap_angle(np.stack([roll_T, np.arctan2(-m[:, 2, 0], horizontal_T), yaw_T], axis=1))


def _about(axis: str, angle_T: np.ndarray) -> np.ndarray:
    one_T, zero_T, c, s = np.ones_like(angle_T), np.zeros_like(angle_T), np.cos(angle_T), np.sin(angle_T)
    if axis == "x":
        return _matrix((one_T, zero_T, zero_T), (zero_T, c, -s), (zero_T, s, c))
    if axis == "y":
        return _matrix((c, zero_T, s), (zero_T, one_T, zero_T), (-s, zero_T, c))
    return _matrix((c, -s, zero_T), (s, c, zero_T), (zero_T, zero_T, one_T))


def _matrix(*rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
