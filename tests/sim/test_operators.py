"""The robot with a hidden gain: motion is command times gain, and several commands tell which."""

import numpy as np
import pytest

from whale.sim.fleet.collect import FleetConfig, generate_episodes
from whale.sim.fleet.operators import OPERATORS, PERSISTENCE, SEEN_OPERATORS, UNSEEN_OPERATORS
from whale.sim.fleet.robots import ROBOTS
from whale.sim.fleet.state import MAX_STEP, VECTOR

ROBOT = ROBOTS["fleet_gain"]
CONFIG = FleetConfig(
    robots=["fleet_gain"], train_episodes=48, val_episodes=8, test_episodes=24, min_steps=40, max_steps=40,
    train_shards=1, unseen_episodes_per_task=1, unseen_test_episodes_per_task=1, unseen_novel_episodes=1,
    unseen_min_steps=9, unseen_max_steps=9,
)  # fmt: skip


@pytest.fixture(scope="module")
def episodes() -> dict[str, list[dict]]:
    splits = ("train", "val", "test")
    return {split: list(generate_episodes(ROBOT, split, CONFIG, seed=0, draw=False)) for split in splits}


def motion(episode: dict) -> tuple[np.ndarray, np.ndarray]:
    """Recorded commands [T, 6] and what came of them [T, 6]."""
    pose = episode["steps"]["observation"]["true_state"][:, VECTOR["pose"]].astype(np.float64)
    return episode["steps"]["action"][:-1, :6].astype(np.float64), np.diff(pose, axis=0)


def policy(episode: dict) -> str:
    return episode["episode_metadata"]["policy"]


def test_motion_is_the_recorded_command_times_the_operators_gain_wherever_nothing_blocks(episodes):
    for episode in episodes["train"] + episodes["test"]:
        command, moved = motion(episode)
        gain = OPERATORS[policy(episode)].gain
        free = np.abs(moved[:, :3] - gain * command[:, :3]) < 1e-5
        assert free.mean() > 0.6
        assert np.median(moved[:, :3][free] / command[:, :3][free]) == pytest.approx(gain, rel=1e-3)
        assert np.abs(command[:, :3]).max() <= MAX_STEP * 1.0001  # the command knows nothing of the gain


def test_test_operators_are_unseen_and_their_gains_are_seen(episodes):
    seen, unseen = ({policy(each) for each in episodes[split]} for split in ("train", "test"))
    assert seen == set(SEEN_OPERATORS) == {policy(each) for each in episodes["val"]} and unseen == set(UNSEEN_OPERATORS)
    assert not seen & unseen
    for names in (seen, unseen):
        assert {OPERATORS[name].gain for name in names} == set(PERSISTENCE)
    hands = [{(OPERATORS[name].persistence, OPERATORS[name].strength) for name in names} for names in (seen, unseen)]
    assert not hands[0] & hands[1]


def test_the_gain_stands_in_no_observation(episodes):
    for episode in episodes["train"][:8]:
        steps = episode["steps"]
        assert set(steps["observation"]) == {"image", "state", "true_state"}
        assert all(len(set(value.tolist())) > 1 or value[0] in (0.0, 1.0, 9.0)  # absent objects lie at 9
                   for value in steps["observation"]["true_state"].T[:7])  # fmt: skip


def test_how_commands_follow_each_other_goes_with_the_gain(episodes):
    """Roll is tremor and little else: its correlation with the step before goes with the gain."""
    correlation: dict[float, list[float]] = {gain: [] for gain in PERSISTENCE}
    for episode in episodes["train"]:
        roll, gain = motion(episode)[0][:, 3], OPERATORS[policy(episode)].gain
        correlation[gain].append(float(np.corrcoef(roll[1:], roll[:-1])[0, 1]))
    means = [np.mean(correlation[gain]) for gain in sorted(PERSISTENCE)]
    assert means == sorted(means, reverse=True) and means[0] - means[1] > 0.1 and means[2] - means[3] > 0.1


def test_an_operator_is_never_done(episodes):
    for episode in episodes["test"]:
        assert len(episode["steps"]["reward"]) == CONFIG.max_steps + 1
        assert not episode["episode_metadata"]["success"] and not episode["steps"]["reward"].any()
