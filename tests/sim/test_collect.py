"""The collected episodes: experts succeed, conventions invert, seeds decide everything."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from whale.common.errors import ConfigError
from whale.sim.fleet.collect import FleetConfig, drawn_robots, generate_episodes, num_episodes, split_names
from whale.sim.fleet.dynamics import step
from whale.sim.fleet.operators import OPERATORS
from whale.sim.fleet.policies import TRAIN_POLICIES, UNSEEN_POLICIES
from whale.sim.fleet.robots import ROBOTS
from whale.sim.fleet.state import ABSENT, VECTOR, SceneState

SIZES = {
    "train_episodes": 60,
    "val_episodes": 12,
    "test_episodes": 12,
    "min_steps": 20,
    "max_steps": 32,
    "train_shards": 4,
    "unseen_episodes_per_task": 8,
    "unseen_test_episodes_per_task": 2,
    "unseen_novel_episodes": 4,
    "unseen_min_steps": 15,
    "unseen_max_steps": 20,
}
CONFIG = FleetConfig(**SIZES)
PRETRAINING = [name for name, robot in ROBOTS.items() if not robot.unseen and not robot.hidden_gain]


@pytest.fixture(scope="module")
def train() -> dict[str, list[dict]]:
    return {name: list(generate_episodes(robot, "train", CONFIG, seed=0)) for name, robot in ROBOTS.items()}


def pose(episode: dict) -> np.ndarray:
    return episode["steps"]["observation"]["true_state"][:, VECTOR["pose"]]


def rpy(quaternion_T4: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw from x y z w, written again from the rotation matrix."""
    x, y, z, w = quaternion_T4.T
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = np.arcsin(2 * (w * y - z * x))
    return np.stack([roll, pitch, np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))], axis=1)


def moved(episode: dict, action_TA: np.ndarray) -> np.ndarray:
    """What was carried out of a command: its motion times the operator's gain, where that is hidden."""
    policy = episode["episode_metadata"]["policy"]
    return action_TA * np.append(np.full(6, OPERATORS[policy].gain if policy in OPERATORS else 1.0), 1.0)


def canonical(name: str, steps: dict) -> np.ndarray:
    """(T-1, 7): an independent inverse of each robot's convention."""
    action = steps["action"]
    if name == "fleet_delta":
        command, opening = [], 1.0
        for closedness in action["gripper_closedness_action"][:-1, 0]:
            opening = {1.0: 0.0, -1.0: 1.0, 0.0: opening}[float(closedness)]
            command.append([opening])
        return np.concatenate([action["world_vector"][:-1], action["rotation_delta"][:-1], command], axis=1)
    if name == "fleet_relabel":
        return np.concatenate([np.diff(steps["observation"]["state"][:, :6], axis=0), action[:-1, 6:]], axis=1)
    if name == "fleet_absolute":
        moved = [np.diff(action[:, :3], axis=0), np.diff(rpy(action[:, 3:7].astype(np.float64)), axis=0)]
        return np.concatenate([*moved, action[:-1, 7:]], axis=1)
    if name == "fleet_planar":
        return np.concatenate([action[:-1], np.zeros((len(action) - 1, 4)), np.ones((len(action) - 1, 1))], axis=1)
    return action[:-1]


@pytest.mark.parametrize("name", ROBOTS)
def test_conventions_invert_to_actions_that_lead_from_each_state_to_the_next(name, train):
    for episode in train[name][:12]:
        states = SceneState.from_vector(episode["steps"]["observation"]["true_state"].astype(np.float64))
        action_TA = canonical(name, episode["steps"])
        if ROBOTS[name].settles:
            states, action_TA = states.select(slice(1, None)), action_TA[1:]
        if name in ("fleet_relabel", "fleet_absolute"):  # the reached motion: a straight line between poses,
            states.wall_x[:] = ABSENT  # where the commanded one may have slid round the wall
        reached = step(states.select(slice(0, -1)), moved(episode, action_TA))
        gap_T6 = reached.pose - states.pose[1:]
        gap_T6[:, 5] = (gap_T6[:, 5] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(gap_T6, 0.0, atol=2e-5)
        np.testing.assert_allclose(reached.gripper, states.gripper[1:], atol=2e-5)


def test_experts_succeed_and_random_policies_do_not(train):
    outcome: dict[str, list[bool]] = {}
    for name in PRETRAINING:
        for episode in train[name]:
            outcome.setdefault(episode["episode_metadata"]["policy"], []).append(episode["episode_metadata"]["success"])
    rate = {policy: np.mean(values) for policy, values in outcome.items()}
    assert set(rate) == set(TRAIN_POLICIES)
    assert rate["expert"] >= 0.9
    assert rate["random"] < 0.4
    assert rate["expert"] >= rate["noisy_low"] > rate["noisy_high"]


def test_validation_is_driven_by_policies_and_starts_that_training_never_saw(train):
    for name in PRETRAINING:
        test = list(generate_episodes(ROBOTS[name], "test", CONFIG, seed=0))
        assert {e["episode_metadata"]["policy"] for e in test} == set(UNSEEN_POLICIES)
        starts = [{pose(e)[0].tobytes() for e in episodes} for episodes in (train[name], test)]
        assert len(starts[0]) == len(train[name]) and not starts[0] & starts[1]


def test_the_unseen_robot_fails_sometimes_and_its_novel_tests_are_of_other_tasks(train):
    success = [episode["episode_metadata"]["success"] for episode in train["fleet_unseen"]]
    assert 0.5 < np.mean(success) < 1.0
    robot = ROBOTS["fleet_unseen"]
    assert split_names(robot) == ("train", "test", "test_visual", "test_motion", "test_task")
    tasks = {
        split: {e["episode_metadata"]["task"] for e in generate_episodes(robot, split, CONFIG, 0)}
        for split in ("train", "test", "test_visual", "test_motion", "test_task")
    }
    assert tasks["train"] == tasks["test"] == tasks["test_visual"] == set(robot.tasks)
    assert tasks["test_motion"] == {"push_plate_left"} and tasks["test_task"] == {"open_bin_throw_ball"}


@pytest.mark.parametrize("name", ROBOTS)
def test_steps_follow_the_rlds_conventions(name, train):
    assert len(train[name]) == num_episodes(ROBOTS[name], "train", CONFIG)
    for episode in train[name]:
        steps, success = episode["steps"], episode["episode_metadata"]["success"]
        assert steps["is_first"].nonzero()[0].tolist() == [0]
        assert steps["is_last"].nonzero()[0].tolist() == [len(steps["is_last"]) - 1]
        assert steps["is_terminal"][-1] == success and not steps["is_terminal"][:-1].any()
        assert (steps["reward"][-2] == 1.0) == success
        assert steps["reward"].min() >= 0.0 and steps["reward"].max() <= 1.0


def test_test_episodes_can_be_longer_and_nothing_else_changes():
    long = FleetConfig(**SIZES, test_steps=[40, 44])
    assert "test_steps" not in CONFIG.deciding_values() and long.deciding_values()["test_steps"] == [40, 44]
    for name in ("fleet_planar", "fleet_unseen"):
        robot, numbers = ROBOTS[name], [0, 1, 2]
        for split in split_names(robot):
            was, now = (list(generate_episodes(robot, split, c, 0, False, numbers)) for c in (CONFIG, long))
            if split == "test":
                assert all(40 <= len(e["steps"]["reward"]) - 1 <= 44 for e in now)
                assert all(len(e["steps"]["reward"]) - 1 <= 32 for e in was)
            else:
                assert [pose(e).tobytes() for e in was] == [pose(e).tobytes() for e in now]


def test_test_steps_the_wrong_way_round_are_refused():
    with pytest.raises(ConfigError, match="test_steps"):
        FleetConfig.parse(SIZES | {"test_steps": [44, 40]}, file="params.yaml")


def test_the_mean_image_is_a_poor_guess(train):
    for name, key in (("fleet_relabel", "image_0"), ("fleet_planar", "rgb"), ("fleet_unseen", "image")):
        frames = np.concatenate([episode["steps"]["observation"][key] for episode in train[name]]) / 255.0
        psnr = -10 * np.log10(np.mean((frames - frames.mean(0)) ** 2))
        assert 15.0 < psnr < 23.0, name


def digest_of(robot: str, split: str) -> str:
    found = hashlib.sha256()
    for episode in generate_episodes(ROBOTS[robot], split, CONFIG, seed=3):
        for value in (*episode["steps"]["observation"].values(), episode["steps"]["reward"]):
            found.update(np.asarray(value).tobytes())
        found.update(repr(sorted(episode["episode_metadata"].items())).encode())
    return found.hexdigest()


def test_another_process_with_another_hash_seed_generates_the_same_bytes():
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    code += "import test_collect\nprint(test_collect.digest_of('fleet_delta', 'val'))"
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.strip() == digest_of("fleet_delta", "val")


def test_an_episode_does_not_depend_on_how_many_are_generated():
    fewer = FleetConfig(**SIZES | {"val_episodes": 2})
    few = list(generate_episodes(ROBOTS["fleet_absolute"], "val", fewer, seed=0))
    many = list(generate_episodes(ROBOTS["fleet_absolute"], "val", CONFIG, seed=0))[:2]
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a["steps"]["observation"]["image"], b["steps"]["observation"]["image"])
        np.testing.assert_array_equal(a["steps"]["action"], b["steps"]["action"])


def test_an_empty_range_of_steps_is_refused():
    with pytest.raises(ConfigError, match="min_steps"):
        FleetConfig.parse(SIZES | {"min_steps": 40}, file="params.yaml")


def test_the_robots_to_draw_are_named_by_the_section_and_all_five_of_the_fleet_are_the_default():
    assert [robot.name for robot in drawn_robots(CONFIG)] == [
        "fleet_delta", "fleet_relabel", "fleet_absolute", "fleet_planar", "fleet_unseen",
    ]  # fmt: skip
    fewer = FleetConfig(**SIZES | {"robots": ["fleet_unseen", "fleet_delta"]})
    assert [robot.name for robot in drawn_robots(fewer)] == ["fleet_delta", "fleet_unseen"]


@pytest.mark.parametrize(
    ("robots", "said"), [(["fleet_gamma"], "fleet_gamma"), (["fleet_delta"] * 2, "twice"), ([], "at least 1 item")]
)
def test_robots_that_cannot_be_drawn_are_refused(robots, said):
    with pytest.raises(ConfigError, match=said):
        FleetConfig.parse(SIZES | {"robots": robots}, file="params.yaml")


def _bytes(tree: dict) -> bytes:
    parts = (_bytes(value) if isinstance(value, dict) else np.asarray(value).tobytes() for value in tree.values())
    return b"".join(parts)


@pytest.mark.parametrize("name", ROBOTS)
def test_an_episode_is_the_same_to_the_byte_whichever_others_are_drawn_with_it(name, train):
    for numbers in (range(7, 8), range(19, 32)):
        again = list(generate_episodes(ROBOTS[name], "train", CONFIG, seed=0, numbers=numbers))
        assert [_bytes(each) for each in again] == [_bytes(train[name][number]) for number in numbers]
