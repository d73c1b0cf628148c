"""The robots of the fleet: camera, look, tasks and the convention each one records its episodes in.

Four robots record as real families do, so that every operation of a dataset spec has something to undo; the fifth,
unseen one records canonically. So does the sixth, which is drawn on demand: its motion is the command times a hidden
gain, and the command is what is recorded (docs/explanation/behavior-experiment.md). A convention is data (`SCHEMAS`)
plus one function (`_record_*`).

A schema's leaves are strings: `float32[7]`, `bool[]`, `text`, `jpeg[64,64,3]`, `png[96,96,3]`; steps only.
Shapes: T steps of one episode, A = 7 canonical action.
"""

from dataclasses import dataclass

import numpy as np

from whale.sim.fleet.render import Camera, Palette
from whale.sim.fleet.state import VECTOR_SIZE, SceneState

TEXT_LENGTH = 512  # code points of an instruction that is stored as numbers


@dataclass(frozen=True)
class Robot:
    """One robot; `name` is also its dataset's."""

    name: str
    camera: Camera
    palette: Palette
    tasks: tuple[str, ...]
    control_hz: float
    planar: bool = False  # the effector stays on the table and only x and y are commanded
    settles: bool = False  # the first recorded step is an idle one, its action all zeros
    unseen: bool = False
    hidden_gain: bool = False  # motion is the command times its operator's gain, which is nowhere recorded


_TASKS_3D = ("move_bottle", "place_block", "open_bin", "throw_ball", "push_plate", "push_block_left")
_ROBOTS = (
    Robot(
        "fleet_delta",
        Camera(64, 80),
        Palette((0.74, 0.78, 0.83), (0.86, 0.83, 0.77), (0.94, 0.64, 0.38), (0.48, 0.50, 0.54)),
        _TASKS_3D,
        control_hz=3.0,
    ),
    Robot(
        "fleet_relabel",
        Camera(64, 64, zoom=1.06, offset=(0.03, 0.02), mirror=True),
        Palette((0.66, 0.74, 0.68), (0.78, 0.84, 0.80), (0.38, 0.48, 0.64), (0.60, 0.64, 0.70)),
        _TASKS_3D,
        control_hz=5.0,
        settles=True,
    ),
    Robot(
        "fleet_absolute",
        Camera(96, 96, zoom=0.94, offset=(-0.02, 0.0), depth=0.72, lift=0.68),
        Palette((0.82, 0.76, 0.70), (0.72, 0.78, 0.86), (0.88, 0.88, 0.90), (0.46, 0.48, 0.52)),
        _TASKS_3D,
        control_hz=10.0,
    ),
    Robot(
        "fleet_planar",
        Camera(48, 64, zoom=1.02, offset=(0.0, 0.03), depth=0.88, lift=0.5),
        Palette((0.80, 0.80, 0.84), (0.90, 0.88, 0.84), (0.60, 0.77, 0.77), (0.56, 0.62, 0.64)),
        ("push_block", "push_plate", "push_block_left", "push_bottle"),
        control_hz=10.0,
        planar=True,
    ),
    Robot(
        "fleet_unseen",
        Camera(72, 72, zoom=0.98, offset=(-0.03, 0.02), mirror=False, depth=0.74, lift=0.66),
        Palette((0.58, 0.62, 0.72), (0.84, 0.78, 0.80), (0.60, 0.46, 0.66), (0.86, 0.80, 0.56)),
        ("move_bottle", "open_bin", "push_plate", "throw_ball"),
        control_hz=5.0,
        unseen=True,
    ),
    Robot(
        "fleet_gain",
        Camera(64, 64, zoom=1.15),
        Palette((0.70, 0.78, 0.80), (0.86, 0.84, 0.78), (0.92, 0.52, 0.36), (0.44, 0.48, 0.54)),
        ("patrol",),
        control_hz=5.0,
        hidden_gain=True,
    ),
)
ROBOTS: dict[str, Robot] = {robot.name: robot for robot in _ROBOTS}
DRAWN_BY_DEFAULT = ("fleet_delta", "fleet_relabel", "fleet_absolute", "fleet_planar", "fleet_unseen")

_STEP = {"reward": "float32[]", "discount": "float32[]", "is_first": "bool[]", "is_last": "bool[]"}
_STEP |= {"is_terminal": "bool[]"}
_TRUTH = {"true_state": f"float32[{VECTOR_SIZE}]"}
METADATA_SCHEMA = {
    "episode_id": "text",
    "robot": "text",
    "task": "text",
    "policy": "text",
    "success": "bool[]",
}
SCHEMAS: dict[str, dict] = {
    "fleet_delta": {
        "observation": {
            "image": "jpeg[64,80,3]",
            "natural_language_instruction": "text",
            "base_pose_tool_reached": "float32[7]",
            "gripper_closed": "float32[1]",
            **_TRUTH,
        },
        "action": {
            "world_vector": "float32[3]",
            "rotation_delta": "float32[3]",
            "gripper_closedness_action": "float32[1]",
        },
        **_STEP,
    },
    "fleet_relabel": {
        "observation": {"image_0": "jpeg[64,64,3]", "state": "float32[7]", **_TRUTH},
        "action": "float32[7]",
        "language_instruction": "text",
        **_STEP,
    },
    "fleet_absolute": {
        "observation": {"image": "png[96,96,3]", "state": "float32[8]", **_TRUTH},
        "action": "float32[8]",
        "language_instruction": "text",
        **_STEP,
    },
    "fleet_planar": {
        "observation": {
            "rgb": "jpeg[48,64,3]",
            "effector_translation": "float32[2]",
            "instruction": f"int32[{TEXT_LENGTH}]",
            **_TRUTH,
        },
        "action": "float32[2]",
        **_STEP,
    },
    "fleet_unseen": {
        "observation": {"image": "jpeg[72,72,3]", "state": "float32[7]", **_TRUTH},
        "action": "float32[7]",
        "language_instruction": "text",
        **_STEP,
    },
    "fleet_gain": {
        "observation": {"image": "jpeg[64,64,3]", "state": "float32[7]", **_TRUTH},
        "action": "float32[7]",
        "language_instruction": "text",
        **_STEP,
    },
}


def record(robot: Robot, frames: np.ndarray, states: SceneState, action_TA: np.ndarray, instruction: str) -> dict:
    """Observation, action and instruction of one episode, nested as SCHEMAS says.

    frames: (T, H, W, 3) uint8 RGB; states: T scenes; action_TA: commands, the last row without meaning (zeros).
    """
    steps = _RECORDERS[robot.name](frames, states, action_TA.astype(np.float32), instruction)
    steps["observation"]["true_state"] = states.to_vector().astype(np.float32)
    return steps


def quaternion(rpy_T3: np.ndarray) -> np.ndarray:
    """(T, 4) x y z w of extrinsic roll, pitch, yaw (rad)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy_T3 / 2).T, np.sin(rpy_T3 / 2).T
    x, y = sr * cp * cy - cr * sp * sy, cr * sp * cy + sr * cp * sy
    z, w = cr * cp * sy - sr * sp * cy, cr * cp * cy + sr * sp * sy
    return np.stack([x, y, z, w], axis=1)


def _pose_quaternion(states: SceneState) -> np.ndarray:
    return np.concatenate([states.pose[:, :3], quaternion(states.pose[:, 3:])], axis=1).astype(np.float32)


def _state7(states: SceneState) -> np.ndarray:
    return np.concatenate([states.pose, states.gripper[:, None]], axis=1).astype(np.float32)


def _record_delta(frames, states, action_TA, instruction) -> dict:
    """Relative gripper: +1 where the command turns to closing, -1 where it turns to opening, else 0."""
    command_T = np.concatenate([[1.0], action_TA[:-1, 6]])  # open before the first step
    closing_T = (command_T[:-1] - command_T[1:]).astype(np.float32)
    closedness_T1 = np.append(closing_T, np.float32(0.0))[:, None]
    observation = {
        "image": frames,
        "natural_language_instruction": [instruction] * len(frames),
        "base_pose_tool_reached": _pose_quaternion(states),
        "gripper_closed": (1.0 - states.gripper[:, None]).astype(np.float32),
    }
    action = {"world_vector": action_TA[:, :3], "rotation_delta": action_TA[:, 3:6]}
    return {"observation": observation, "action": action | {"gripper_closedness_action": closedness_T1}}


def _record_relabel(frames, states, action_TA, instruction) -> dict:
    """Commands as sent, though the reached state is the truth; the settling step's command reads all zeros."""
    recorded_TA = action_TA.copy()
    recorded_TA[0] = 0.0
    observation = {"image_0": frames, "state": _state7(states)}
    return {"observation": observation, "action": recorded_TA, "language_instruction": [instruction] * len(frames)}


def _record_absolute(frames, states, action_TA, instruction) -> dict:
    """The pose reached at this step as position and quaternion, and the gripper's new command; frames are BGR.

    The last row holds the last pose (a quaternion of zeros would be none).
    """
    pose_T8 = np.concatenate([_pose_quaternion(states), action_TA[:, 6:]], axis=1)
    state_T8 = np.concatenate([_pose_quaternion(states), states.gripper[:, None]], axis=1).astype(np.float32)
    observation = {"image": np.ascontiguousarray(frames[..., ::-1]), "state": state_T8}
    return {"observation": observation, "action": pose_T8, "language_instruction": [instruction] * len(frames)}


def _record_planar(frames, states, action_TA, instruction) -> dict:
    """x and y only; the instruction is a row of code points, zero padded."""
    code_points = np.zeros(TEXT_LENGTH, np.int32)
    code_points[: len(instruction)] = [ord(character) for character in instruction]
    observation = {
        "rgb": frames,
        "effector_translation": states.pose[:, :2].astype(np.float32),
        "instruction": np.repeat(code_points[None], len(frames), axis=0),
    }
    return {"observation": observation, "action": action_TA[:, :2]}


def _record_canonical(frames, states, action_TA, instruction) -> dict:
    observation = {"image": frames, "state": _state7(states)}
    return {"observation": observation, "action": action_TA, "language_instruction": [instruction] * len(frames)}


_RECORDERS = {
    "fleet_delta": _record_delta,
    "fleet_relabel": _record_relabel,
    "fleet_absolute": _record_absolute,
    "fleet_planar": _record_planar,
    "fleet_unseen": _record_canonical,
    "fleet_gain": _record_canonical,
}
