"""A dataset with odd conventions, and what its actions are by another computation than whale's.

Absolute poses with quaternions, a gripper that says 1 for closed, three BGR cameras of 48 x 80, language per step.
"""

from pathlib import Path

import numpy as np
import simplejpeg
from rlds_fixture import PACKAGE, _dict, _image, _tensor, write_rlds
from scipy.spatial.transform import Rotation

HEIGHT, WIDTH = 48, 80
CAMERAS = ("front", "side", "wrist_cam")
BROWN = np.array([110, 70, 40], np.uint8)  # RGB


def episode(seed: int, length: int) -> dict:
    """Flattened features of one tf.Example."""
    rng = np.random.default_rng(seed)
    position = np.cumsum(rng.normal(scale=0.02, size=(length, 3)), axis=0)
    turns = Rotation.from_rotvec(rng.normal(scale=0.05, size=(length, 3)))
    rotation = [Rotation.from_euler("xyz", [3.0, 0.1, 0.5])]  # the tool points down, close to where roll wraps
    for turn in turns[1:]:
        rotation.append(turn * rotation[-1])
    quaternion = np.stack([each.as_quat() for each in rotation])
    closed = np.repeat(rng.integers(0, 2, length // 4 + 1), 4)[:length].astype(np.float64)
    opening = 1.0 - np.concatenate([closed[:1], closed[:-1]])
    action = np.concatenate([position, quaternion, closed[:, None]], axis=1)
    state = np.concatenate([position, quaternion, opening[:, None]], axis=1)
    steps = np.arange(length)
    features = {
        "steps/action": action.astype(np.float32).ravel(),
        "steps/observation/eef_state": state.astype(np.float32).ravel(),
        "steps/language_instruction": [f"task {seed}".encode()] * length,
        "steps/is_first": (steps == 0).astype(np.int64),
        "steps/is_last": (steps == length - 1).astype(np.int64),
    }
    for number, camera in enumerate(CAMERAS):
        features[f"steps/observation/{camera}"] = [picture(seed, step, number) for step in steps]
    return features


def picture(seed: int, step: int, camera: int) -> bytes:
    """Brown, with a bar that moves; stored with blue first."""
    image = np.tile(BROWN, (HEIGHT, WIDTH, 1)) + np.uint8(5 * camera)
    image[:, (7 * step + seed) % (WIDTH - 8) : (7 * step + seed) % (WIDTH - 8) + 8] = [60, 50, 45]
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image[..., ::-1]), quality=98, colorsubsampling="444")


def expected_action(features: dict) -> np.ndarray:
    """(T - 1, 7): what the arm did between two steps, and 1 where the gripper is to be open."""
    action = features["steps/action"].reshape(-1, 8).astype(np.float64)
    rotation = Rotation.from_quat(action[:, 3:7])
    turn = (rotation[1:] * rotation[:-1].inv()).as_euler("xyz")
    return np.concatenate([np.diff(action[:, :3], axis=0), turn, 1.0 - action[:-1, 7:]], axis=1)


def write_odd(root: Path, num_episodes: int = 24) -> Path:
    """<root>/odd_robot/1.0.0 with a split train."""
    observation = {camera: _image() for camera in CAMERAS} | {"eef_state": _tensor("8")}
    text = {"pythonClassName": PACKAGE + "text_feature.Text", "text": {}}
    flags = {name: _tensor(dtype="bool") for name in ("is_first", "is_last")}
    step = {"action": _tensor("8"), "observation": _dict(observation), "language_instruction": text, **flags}
    tree = _dict(
        {"steps": {"pythonClassName": PACKAGE + "dataset_feature.Dataset", "sequence": {"feature": _dict(step)}}}
    )
    episodes = [episode(seed, 28) for seed in range(num_episodes)]
    return write_rlds(root, {"train": [episodes]}, "odd_robot", "1.0.0", tree)
