"""What a table-top scene is: geometry constants, the batched state and its flat vector form.

Shapes: B batch (episodes, or the steps of one episode), K objects, V entries of the state vector.
World frame: x to the right, y away from the viewer, z up; metres and radians. The gripper is 0 closed, 1 open.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

MAX_STEP = 0.06  # metres per step and axis that a policy commands at most
WORKSPACE_LOW = np.array([-0.30, -0.20, 0.02])
WORKSPACE_HIGH = np.array([0.30, 0.20, 0.24])
TILT_LIMIT = 0.6  # rad; roll and pitch stay clear of the Euler singularity

OBJECT_NAMES = ("bottle", "ball", "block", "plate", "cup", "cone")
BOTTLE, BALL, BLOCK, PLATE, CUP, CONE = range(6)
NUM_OBJECTS = len(OBJECT_NAMES)
OBJECT_RADIUS = np.array([0.032, 0.036, 0.034, 0.062, 0.032, 0.034])
OBJECT_HEIGHT = np.array([0.105, 0.070, 0.065, 0.035, 0.065, 0.080])
GRASPABLE = np.array([True, True, True, False, True, True])
ABSENT, ABSENT_LIMIT = 9.0, 1.0  # x and y of what is not on this table; anything beyond the limit is absent
NOTHING, LID = -1, NUM_OBJECTS  # values of `held` beside an object's index

BIN_HALF, BIN_HEIGHT = 0.058, 0.075
LID_LENGTH, LID_ANGLE = 2 * BIN_HALF, np.deg2rad(110.0)
WALL_HALF_THICKNESS, WALL_Y, WALL_HEIGHT = 0.014, (0.00, 0.20), 0.10


@dataclass
class SceneState:
    """The whole truth about B scenes; every array is batched on its first axis and float64 unless noted."""

    pose: np.ndarray  # (B, 6) effector: xyz of the fingertips (m), roll pitch yaw (rad)
    gripper: np.ndarray  # (B,) opening in [0, 1]
    held: np.ndarray  # (B,) int: index of the held object, LID or NOTHING
    objects: np.ndarray  # (B, K, 3) bottom centre of each object; x = ABSENT when it is not there
    ball_velocity: np.ndarray  # (B, 2) metres per step
    ball_in_bin: np.ndarray  # (B,) bool
    lid: np.ndarray  # (B,) opening in [0, 1]
    bin_position: np.ndarray  # (B, 2)
    wall_x: np.ndarray  # (B,); ABSENT without a wall

    def copy(self) -> SceneState:
        return SceneState(*(getattr(self, f.name).copy() for f in fields(self)))

    def select(self, index: slice | np.ndarray) -> SceneState:
        """The scenes `index` of the batch (a view where numpy gives one)."""
        return SceneState(*(getattr(self, f.name)[index] for f in fields(self)))

    def to_vector(self) -> np.ndarray:
        """(B, V) float64, laid out as VECTOR says; `from_vector` is its inverse."""
        parts = (np.asarray(getattr(self, f.name), np.float64) for f in fields(self))
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    @staticmethod
    def from_vector(vector_BV: np.ndarray) -> SceneState:
        """Restore the scenes, so that a recorded `true_state` can be simulated further or drawn again."""
        part = {name: np.asarray(vector_BV[:, where], np.float64) for name, where in VECTOR.items()}
        return SceneState(
            pose=part["pose"].copy(),
            gripper=part["gripper"][:, 0].copy(),
            held=np.rint(part["held"][:, 0]).astype(np.int64),
            objects=part["objects"].reshape(-1, NUM_OBJECTS, 3).copy(),
            ball_velocity=part["ball_velocity"].copy(),
            ball_in_bin=part["ball_in_bin"][:, 0] > 0.5,
            lid=part["lid"][:, 0].copy(),
            bin_position=part["bin_position"].copy(),
            wall_x=part["wall_x"][:, 0].copy(),
        )

    @staticmethod
    def stack(states: list[SceneState]) -> SceneState:
        """Join batches one after the other."""
        return SceneState(*(np.concatenate([getattr(s, f.name) for s in states]) for f in fields(SceneState)))


def _layout() -> dict[str, slice]:
    sizes = {"pose": 6, "gripper": 1, "held": 1, "objects": 3 * NUM_OBJECTS, "ball_velocity": 2}
    sizes |= {"ball_in_bin": 1, "lid": 1, "bin_position": 2, "wall_x": 1}
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}


VECTOR = _layout()  # where each field stands in `to_vector`
VECTOR_SIZE = VECTOR["wall_x"].stop


def lid_handle(bin_position_B2: np.ndarray, lid_B: np.ndarray) -> np.ndarray:
    """(B, 3) where the lid's handle is: it turns about the hinge on the bin's far edge."""
    angle_B = lid_B * LID_ANGLE
    x_B, y_B = bin_position_B2[:, 0], bin_position_B2[:, 1] + BIN_HALF
    return np.stack([x_B, y_B - LID_LENGTH * np.cos(angle_B), BIN_HEIGHT + LID_LENGTH * np.sin(angle_B)], axis=1)
