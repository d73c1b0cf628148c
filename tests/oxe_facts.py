"""Independent facts of the 27 Open X-Embodiment datasets of Table 11: what their specs must say and compute.

Nothing here comes from data_specs/ or from whale. Identities are those of the release (configs of openvla@c8f03f48,
digests of dataset_info.json of a full mirror, OpenVLA statistics), raw schemas those of features.json; expected actions
are computed step by step, with SciPy for rotations. Shapes: T steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

T = 16
CONVERTED = "_converted_externally_to_rlds"
NL, STEP = "observation/natural_language_instruction", "language_instruction"
Raw = dict[str, np.ndarray]


@dataclass(frozen=True)
class Fact:
    """One row. `camera` = (key, height, width, channel order); `action` gives (expected (T', 7), valid (T',))."""

    dataset: str
    version: str
    splits: str
    hz: float
    episodes: int
    steps: int
    camera: tuple[str, int, int, str]
    view: str
    others: tuple[tuple[str, str, int, int, str], ...]
    language: tuple[str, str]
    state: tuple[str | int, ...] | None  # pose key, slice, form; then gripper key, slice, what makes it rise
    units: tuple[str | None, str | None]
    raw_gripper: str
    contract: tuple[str, str, str, bool, str]
    edits: tuple[str, ...]
    citation: str
    schema: dict[str, int | None]
    action: Callable[[Raw], tuple[np.ndarray, np.ndarray]]
    limit: tuple[float, ...] | None = None
    spdx: str = "CC-BY-4.0"
    encoding: str = "utf8"
    quaternion: int | None = None  # first column of a unit quaternion xyzw in `action`
    scale: tuple[float, ...] = ()  # of the columns of features this wide


def raw_episode(fact: Fact, seed: int) -> Raw:
    """Random raw values that reach every branch of every rule: thresholds, clip bounds, whole turns, limits."""
    rng = np.random.default_rng(seed)
    raw = {}
    for key, width in fact.schema.items():
        values = rng.uniform(-1.3, 1.3, (T, width or 1))
        if width == len(fact.scale):
            values *= fact.scale
        if key == "action" and fact.quaternion is not None:
            columns = slice(fact.quaternion, fact.quaternion + 4)
            values[:, columns] /= np.linalg.norm(values[:, columns], axis=1, keepdims=True)
            raw[key] = values
            continue
        values[rng.integers(T, size=3), rng.integers(width or 1, size=3)] *= 0.05
        raw[key] = values if width else values[:, 0]
    for key in raw:
        if "closedness" in key or "target_close" in key or key.endswith(("gripper_position", "open_gripper")):
            levels = np.array([-1.0, -0.15, -0.05, 0.0, 0.0, 0.0, 0.05, 0.15, 1.0, 0.4, 1.3])
            drawn = levels[rng.permutation(np.arange(T) % len(levels))]
            raw[key] = drawn if raw[key].ndim == 1 else np.broadcast_to(drawn[:, None], raw[key].shape).copy()
    return raw


# Gripper rules: one number per step -> 1 = open, 0 = closed.
def held(commands: np.ndarray) -> np.ndarray:
    """Relative closedness: > 0.1 closes, < -0.1 opens, else hold; before the first command its opposite."""
    events = [0.0 if c > 0.1 else 1.0 if c < -0.1 else None for c in commands]
    first = next((event for event in events if event is not None), None)
    level, levels = (1.0 if first is None else 1.0 - first), []
    for event in events:
        level = level if event is None else event
        levels.append(level)
    return np.array(levels)


def clipped(values: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(values, 0.0), 1.0)


def clip_then_flip(values: np.ndarray) -> np.ndarray:
    return 1.0 - clipped(values)


def flipped(values: np.ndarray) -> np.ndarray:
    return 1.0 - values


def as_it_is(values: np.ndarray) -> np.ndarray:
    return values


def decided(values: np.ndarray) -> np.ndarray:
    """Above 0.95 open, below 0.05 closed, else the next decided value; an undecided tail keeps the last raw one."""
    out, following = np.empty(len(values)), values[-1]
    for step in reversed(range(len(values))):
        if values[step] > 0.95:
            following = 1.0
        elif values[step] < 0.05:
            following = 0.0
        out[step] = following
    return out


# Rotation rules: (T, k) -> roll, pitch, yaw.
def from_quaternion(q: np.ndarray) -> np.ndarray:
    return Rotation.from_quat(q).as_euler("xyz")


def turns_removed(rpy: np.ndarray) -> np.ndarray:
    return Rotation.from_euler("xyz", rpy).as_euler("xyz")


def from_zxy(angles: np.ndarray) -> np.ndarray:
    return Rotation.from_euler("zxy", angles).as_euler("xyz")


def from_axis_angle(vector: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(vector).as_euler("xyz")


def wrapped_steps(angles: np.ndarray) -> np.ndarray:
    steps = angles[1:] - angles[:-1]
    return np.arctan2(np.sin(steps), np.cos(steps))


def turned(q: np.ndarray) -> np.ndarray:
    pose = Rotation.from_quat(q)
    return (pose[1:] * pose[:-1].inv()).as_euler("xyz")


def seven(xyz: np.ndarray, rpy: np.ndarray | float, gripper: np.ndarray | float, limit=None):
    """Join the parts; a step counts if its gripper is in [0, 1] and, with `limit`, no value is beyond it."""
    steps = len(xyz)
    columns = [
        xyz,
        np.full((steps, 3), rpy) if np.ndim(rpy) == 0 else rpy[:steps],
        np.full(steps, gripper)[:, None] if np.ndim(gripper) == 0 else gripper[:steps, None],
    ]
    action = np.concatenate(columns, axis=1)
    valid = np.abs(action[:, 6] - 0.5) <= 0.501
    action[:, 6] = clipped(action[:, 6])
    if limit is not None:
        valid &= (np.abs(action) <= np.array(limit)).all(axis=1)
    return action, valid


def google(gripper_rule, limit=None):
    """world_vector, rotation_delta, gripper_closedness_action."""

    def action(raw: Raw):
        gripper = np.ravel(raw["action/gripper_closedness_action"])
        return seven(raw["action/world_vector"], raw["action/rotation_delta"], gripper_rule(gripper), limit)

    return action


def vector(gripper_rule, rotation=as_it_is, start=0, rotation_size=3, limit=None):
    """xyz, rotation and gripper in one vector, from column `start` on."""

    def action(raw: Raw):
        a, middle = raw["action"], start + 3 + rotation_size
        return seven(a[:, start : start + 3], rotation(a[:, start + 3 : middle]), gripper_rule(a[:, middle]), limit)

    return action


def taco(raw: Raw):
    a = raw["action/rel_actions_world"]
    return seven(a[:, :3], a[:, 3:6], clipped(a[:, 6]))


def jaco(raw: Raw):
    return seven(raw["action/world_vector"], 0.0, held(np.ravel(raw["action/gripper_closedness_action"])))


def cable(raw: Raw):
    return seven(raw["action/world_vector"], raw["action/rotation_delta"], 0.0)


def toto(raw: Raw):
    xyz, rpy = raw["action/world_vector"], raw["action/rotation_delta"]
    return seven(xyz[1:] - xyz[:-1], wrapped_steps(rpy), np.ravel(raw["action/open_gripper"]))


def bridge(raw: Raw):
    s, a = raw["observation/state"][1:], raw["action"][1:]
    return seven(s[1:, :3] - s[:-1, :3], wrapped_steps(s[:, 3:6]), decided(a[:, 6]))


def language_table(raw: Raw):
    return seven(np.pad(raw["action"], ((0, 0), (0, 1))), 0.0, 1.0)


def kitchen(raw: Raw):
    a = raw["action"]
    return seven((a[1:, :3] - a[:-1, :3]) / 1000, wrapped_steps(np.deg2rad(a[:, 3:6])), a[:, 6])


def pickup(raw: Raw):
    a = raw["action"]
    return seven(a[1:, :3] - a[:-1, :3], turned(a[:, 3:7]), a[:, 7])


def fanuc(raw: Raw):
    return seven(raw["action"][:, :3], raw["action"][:, 3:6], 1.0 - raw["observation/state"][:, 6])


def bc_z(raw: Raw):
    rotation = from_axis_angle(raw["action/future/axis_angle_residual"][:, :3])
    return seven(raw["action/future/xyz_residual"][:, :3], rotation, 1.0 - raw["action/future/target_close"][:, 0])


def droid(raw: Raw):
    velocity = raw["action_dict/cartesian_velocity"]
    return seven(velocity[:, :3], velocity[:, 3:], 1.0 - raw["action_dict/gripper_position"][:, 0])


WV = {"action/world_vector": 3, "action/rotation_delta": 3, "action/gripper_closedness_action": 1}
SCALAR = WV | {"action/gripper_closedness_action": None}
RGB, BGR = "rgb", "bgr"
M_RAD, NORM, SCALED = ("m", "rad"), ("normalised", "normalised"), ("scaled", "scaled")
DOBBE = (0.17, 0.17, 0.17, 0.4, 0.4, 0.4, 1.0)
FRACTAL = (3.0, 3.0, 3.0, 3.2, 3.2, 3.2, 1.0)
TOOL = ("base_pose_tool_reached", 0, 7, "xyz_quat_xyzw", "gripper_closed", 0, 1, "close")
KUKA_TOOL = ("clip_function_input/" + TOOL[0], *TOOL[1:])


def wrist(key: str, height: int, width: int, channels: str = RGB):
    return ("wrist", key, height, width, channels)


def second(key: str, height: int, width: int):
    return ("secondary", key, height, width, RGB)


def contract(form: str, live: str, retraceable: bool = True, last_step: str = "unknown", frame: str = "base"):
    return (frame, form, live, retraceable, last_step)


HELD_95, GIVEN = "95/5", "train/val"
FACTS: dict[str, Fact] = {
    "fractal20220817_data": Fact(
        "fractal20220817_data", "0.1.0", HELD_95, 3, 87212, 3786400, ("image", 256, 320, RGB), "head", (),
        (NL, "templated"), TOOL, M_RAD, "relative", contract("delta", "xyzrpwg"), (), "brohan2022rt1", WV,
        google(held, FRACTAL), FRACTAL, scale=(3, 3, 3)),
    "kuka": Fact(
        "kuka", "0.1.0", HELD_95, 10, 209880, 2455879, ("image", 512, 640, RGB), "fixed", (), (NL, "constant"),
        KUKA_TOOL, M_RAD, "relative", contract("delta", "xyzwg"), (), "kalashnikov2018qt", WV, google(held)),
    "bridge_orig": Fact(
        "bridge_dataset", "1.0.0", GIVEN, 5, 60064, 2135463, ("image_0", 256, 256, RGB), "fixed",
        (second("image_1", 256, 256),), (STEP, "natural"), ("state", 0, 6, "xyz_rpy", "state", 6, 7, "open"), M_RAD,
        "absolute", contract("delta", "xyzrpwg", last_step="undefined"), ("drop_first", "drop_last"),
        "walke2023bridgedata", {"observation/state": 7, "action": 7}, bridge,
        scale=(3, 3, 3, 2, 2, 2, 1)),
    "taco_play": Fact(
        "taco_play", "0.1.0", HELD_95, 15, 3603, 237798, ("rgb_static", 150, 200, RGB), "fixed",
        (wrist("rgb_gripper", 84, 84),), (NL, "natural"), ("robot_obs", 0, 6, "xyz_rpy", "robot_obs", 6, 7, "open"),
        SCALED, "absolute", contract("delta", "xyzrpw"), (), "rosete2022tacorl", {"action/rel_actions_world": 7}, taco),
    "jaco_play": Fact(
        "jaco_play", "0.1.0", HELD_95, 10, 1085, 77965, ("image", 224, 224, RGB), "fixed",
        (wrist("image_wrist", 224, 224),), (NL, "templated"),
        ("end_effector_cartesian_pos", 0, 6, "xyz_rpy", "end_effector_cartesian_pos", 6, 7, "unknown"), ("m", None),
        "relative", contract("delta", "xyzg"), (), "dass2023jacoplay",
        {"action/world_vector": 3, "action/gripper_closedness_action": 1}, jaco),
    "berkeley_cable_routing": Fact(
        "berkeley_cable_routing", "0.1.0", HELD_95, 10, 1647, 42328, ("image", 128, 128, RGB), "fixed",
        (second("top_image", 128, 128), wrist("wrist45_image", 128, 128)), (NL, "constant"), None, NORM, "none",
        contract("velocity", "xyzw"), (), "luo2023multistage",
        {"action/world_vector": 3, "action/rotation_delta": 3}, cable),
    "roboturk": Fact(
        "roboturk", "0.1.0", HELD_95, 10, 1995, 187507, ("front_rgb", 480, 640, RGB), "fixed", (), (NL, "templated"),
        None, M_RAD, "absolute", contract("delta", "xyzrpwg"), (), "mandlekar2019scaling", WV, google(clip_then_flip)),
    "viola": Fact(
        "viola", "0.1.0", HELD_95, 20, 150, 76324, ("agentview_rgb", 224, 224, RGB), "fixed",
        (wrist("eye_in_hand_rgb", 224, 224),), (NL, "templated"), None, NORM, "absolute",
        contract("controller", "xyzrpwg"), (), "zhu2022viola", SCALAR, google(clip_then_flip)),
    "berkeley_autolab_ur5": Fact(
        "berkeley_autolab_ur5", "0.1.0", HELD_95, 5, 1000, 97939, ("image", 480, 640, RGB), "fixed",
        (wrist("hand_image", 480, 640, BGR),), (NL, "templated"),
        ("robot_state", 6, 13, "xyz_quat_xyzw", "robot_state", 13, 14, "close"), M_RAD, "relative",
        contract("delta", "xyzrpwg"), (), "BerkeleyUR5Website", SCALAR, google(held)),
    "toto": Fact(
        "toto", "0.1.0", HELD_95, 30, 1003, 324696, ("image", 480, 640, RGB), "fixed", (), (NL, "constant"), None,
        M_RAD, "absolute", contract("delta", "xyzrpw", last_step="undefined"), ("drop_last",), "zhou2023train",
        {"action/world_vector": 3, "action/rotation_delta": 3, "action/open_gripper": 1}, toto,
        scale=(3, 3, 3)),
    "language_table": Fact(
        "language_table", "0.1.0", HELD_95, 10, 442226, 7045476, ("rgb", 360, 640, RGB), "fixed", (),
        ("observation/instruction", "natural"), ("effector_translation", 0, 2, "xy"), ("m", None), "none",
        contract("delta", "xy"), (),
        "lynch2022interactive", {"action": 2}, language_table, encoding="codepoints_int32"),
    "stanford_hydra_dataset" + CONVERTED: Fact(
        "stanford_hydra_dataset" + CONVERTED, "0.1.0", HELD_95, 10, 570, 358234, ("image", 240, 320, BGR), "fixed",
        (wrist("wrist_image", 240, 320, BGR),), (STEP, "templated"),
        ("state", 0, 7, "xyz_quat_xyzw", "state", 24, 25, "unknown"), M_RAD, "absolute", contract("delta", "xyzrpwg"),
        (), "belkhale2023hydra", {"action": 7}, vector(flipped)),
    "austin_buds_dataset" + CONVERTED: Fact(
        "austin_buds_dataset" + CONVERTED, "0.1.0", HELD_95, 20, 50, 34112, ("image", 128, 128, RGB), "fixed",
        (wrist("wrist_image", 128, 128),), (STEP, "constant"), None, NORM, "absolute", contract("controller", "xyzg"),
        (), "zhu2022bottom", {"action": 7}, vector(clip_then_flip)),
    "nyu_franka_play_dataset" + CONVERTED: Fact(
        "nyu_franka_play_dataset" + CONVERTED, "0.1.0", GIVEN, 3, 456, 44875, ("image", 128, 128, RGB), "fixed",
        (second("image_additional_view", 128, 128),), (STEP, "constant"), None, M_RAD, "absolute",
        contract("delta", "xyzrpwg"), (), "cui2022play", {"action": 15}, vector(clipped, turns_removed, start=7),
        scale=(1,) * 10 + (5, 1, 5, 1, 1)),
    "furniture_bench_dataset" + CONVERTED: Fact(
        "furniture_bench_dataset" + CONVERTED, "0.1.0", HELD_95, 10, 5100, 3948057, ("image", 224, 224, RGB), "fixed",
        (wrist("wrist_image", 224, 224),), (STEP, "templated"),
        ("state", 0, 7, "xyz_quat_xyzw", "state", 34, 35, "open"), ("m", "one"), "absolute",
        contract("delta", "xyzrpwg"), (), "heo2023furniturebench", {"action": 8},
        vector(clip_then_flip, from_quaternion, rotation_size=4), quaternion=3),
    "ucsd_kitchen_dataset" + CONVERTED: Fact(
        "ucsd_kitchen_dataset" + CONVERTED, "0.1.0", HELD_95, 2, 150, 3820, ("image", 480, 640, RGB), "fixed", (),
        (STEP, "natural"), None, ("mm", "deg"), "absolute", contract("delta", "xyzrpw", last_step="undefined"),
        ("drop_last",), "ucsd_kitchens", {"action": 8}, kitchen, scale=(3000, 3000, 3000, 130, 130, 130, 1, 1)),
    "austin_sailor_dataset" + CONVERTED: Fact(
        "austin_sailor_dataset" + CONVERTED, "0.1.0", HELD_95, 20, 240, 353094, ("image", 128, 128, RGB), "fixed",
        (wrist("wrist_image", 128, 128),), (STEP, "constant"),
        ("state", 0, 7, "xyz_quat_xyzw", "state", 7, 8, "unknown"), NORM, "absolute", contract("controller", "xyzwg"),
        (), "nasiriany2022sailor", {"action": 7}, vector(clip_then_flip)),
    "austin_sirius_dataset" + CONVERTED: Fact(
        "austin_sirius_dataset" + CONVERTED, "0.1.0", HELD_95, 20, 559, 279939, ("image", 84, 84, RGB), "fixed",
        (wrist("wrist_image", 84, 84),), (STEP, "constant"),
        ("state", 0, 7, "xyz_quat_xyzw", "state", 7, 8, "unknown"), NORM, "absolute", contract("controller", "xyzwg"),
        (), "liu2022robot", {"action": 7}, vector(clip_then_flip)),
    "dlr_edan_shared_control" + CONVERTED: Fact(
        "dlr_edan_shared_control" + CONVERTED, "0.1.0", HELD_95, 5, 104, 8928, ("image", 360, 640, RGB), "varied", (),
        (STEP, "templated"), None, M_RAD, "absolute", contract("delta", "xyzrpwg"), (), "vogel_edan_2020",
        {"action": 7}, vector(flipped, from_zxy)),
    "iamlab_cmu_pickup_insert" + CONVERTED: Fact(
        "iamlab_cmu_pickup_insert" + CONVERTED, "0.1.0", HELD_95, 20, 631, 145610, ("image", 360, 640, RGB), "fixed",
        (wrist("wrist_image", 240, 320),), (STEP, "templated"), None, ("m", "one"), "absolute",
        contract("delta", "xyzrpwg", last_step="undefined"), ("drop_last",), "saxena2023multiresolution",
        {"action": 8}, pickup, scale=(3, 3, 3, 1, 1, 1, 1, 1), quaternion=3),
    "utaustin_mutex": Fact(
        "utaustin_mutex", "0.1.0", HELD_95, 20, 1500, 361883, ("image", 128, 128, BGR), "fixed",
        (wrist("wrist_image", 128, 128, BGR),), (STEP, "natural"), None, NORM, "absolute",
        contract("controller", "xyzrpwg"), (), "shah2023mutex", {"action": 7}, vector(clip_then_flip)),
    "berkeley_fanuc_manipulation": Fact(
        "berkeley_fanuc_manipulation", "0.1.0", HELD_95, 10, 415, 62613, ("image", 224, 224, BGR), "fixed",
        (wrist("wrist_image", 224, 224, BGR),), (STEP, "natural"),
        ("end_effector_state", 0, 7, "xyz_quat_xyzw", "state", 6, 7, "unknown"), M_RAD, "absolute",
        contract("delta", "xyzrw"), (), "fanuc_manipulation2023", {"action": 6, "observation/state": 13}, fanuc),
    "cmu_stretch": Fact(
        "cmu_stretch", "0.1.0", HELD_95, 10, 135, 25016, ("image", 128, 128, RGB), "head", (), (STEP, "templated"),
        None, M_RAD, "absolute", contract("delta", "xzg"), (), "mendonca2023structured", {"action": 8},
        vector(as_it_is)),
    "bc_z": Fact(
        "bc_z", "0.1.0", GIVEN, 10, 43264, 6015535, ("image", 171, 213, RGB), "head", (), (NL, "templated"), None,
        M_RAD, "absolute", contract("delta", "xyzrpwg"), (), "jang2021bc",
        {"action/future/xyz_residual": 30, "action/future/axis_angle_residual": 30, "action/future/target_close": 10},
        bc_z),
    "fmb_dataset": Fact(
        "fmb", "0.0.1", HELD_95, 10, 8612, 1137459, ("image_side_1", 256, 256, RGB), "fixed",
        (second("image_side_2", 256, 256), wrist("image_wrist_1", 256, 256)), (STEP, "templated"),
        ("eef_pose", 0, 7, "xyz_quat_xyzw", "state_gripper_pose", 0, 1, "unknown"), NORM, "absolute",
        contract("controller", "xyzrpwg"), (), "luo2024fmb", {"action": 7}, vector(as_it_is),
        spdx="LicenseRef-unverified"),
    "dobbe": Fact(
        "dobbe", "0.0.1", HELD_95, 3.75, 5208, 1139911, ("wrist_image", 256, 256, RGB), "wrist", (), (STEP, "natural"),
        None, M_RAD, "absolute", contract("delta", "xyzrpwg", retraceable=False, frame="unknown"), (),
        "shafiullah2023dobbe", {"action": 7}, vector(clipped, limit=DOBBE), DOBBE, spdx="LicenseRef-unverified",
        scale=(0.15, 0.15, 0.15, 0.35, 0.35, 0.35, 1)),
    "droid": Fact(
        "droid", "1.0.1", HELD_95, 15, 92233, 27044326, ("exterior_image_1_left", 180, 320, RGB), "varied",
        (second("exterior_image_2_left", 180, 320), wrist("wrist_image_left", 180, 320)), (STEP, "natural"),
        ("cartesian_position", 0, 6, "xyz_rpy", "gripper_position", 0, 1, "close"), NORM, "absolute",
        contract("velocity", "xyzrpwg"), (), "khazatsky2024droid",
        {"action_dict/cartesian_velocity": 6, "action_dict/gripper_position": 1}, droid),
}  # fmt: skip
