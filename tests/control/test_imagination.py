"""r - alpha U, alpha by the mean penalty, branches that are those of a rollout, and values that are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_optimization import FORM, ROBOT, TASK, contract, values

from whale.common.errors import BadDataError, ConfigError
from whale.control.arenas import FleetArenaConfig, arena_of
from whale.control.demonstrations import Demonstrations
from whale.control.imagination import Begun, alpha_of, imagine, observer, penalised
from whale.control.optimize import Optimization, OptimizePolicyConfig
from whale.control.policy import PixelPolicy
from whale.data.storage.shards import ShardSet
from whale.models.world.rollout import entropy, rollout
from whale.models.world.rollout import frames as imagined_frames
from whale.reward.reading import read_rewards
from whale.reward.reward import RewardHead
from whale.worlds.load import load


def config(**changes) -> OptimizePolicyConfig:
    return OptimizePolicyConfig.parse(values(**changes), file="test")


@pytest.fixture(scope="module")
def optimization(project) -> Optimization:
    world = load(project / "models", ROBOT, verify=False, checking="off")
    demonstrations = Demonstrations.read(ShardSet.open(project / "shards" / ROBOT), "train", TASK)
    arena = arena_of(FleetArenaConfig(kind="fleet", actions=4), TASK, world.contract, FORM)
    head = RewardHead.restore(project / "reward/head")
    return Optimization(config(), world, head, demonstrations, arena, project / "models")


def branches(optimization, name="none", horizon=2, start=1):
    """Three branches without noise, and what they begin with."""
    shown, dreams = optimization.demonstrations, optimization.dreams
    given = np.stack([shown.frames(episode, start, start + 3) for episode in range(3)])
    taken = np.stack([shown.actions[shown.first[e] + start : shown.first[e] + start + 2] for e in range(3)])
    policy = PixelPolicy.new(optimization.config.policy, optimization.features, optimization.live, 3)
    noise = np.zeros((3, horizon, 7), np.float32)
    begun = Begun(np.stack([shown.frames(episode, 0, 1)[0] for episode in range(3)]), [""] * 3)
    made = imagine(
        dreams.world, dreams.head, policy, optimization.describe, optimization.normalizer, given, taken, begun, noise,
        dreams.observers[name], name,
    )  # fmt: skip
    return made, given, taken


def test_the_penalty_is_alpha_times_u_and_alpha_gives_it_the_mean_that_was_asked_for():
    reward, doubt = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0e-4, 5.0e-4])
    np.testing.assert_allclose(penalised(reward, doubt, 1000.0), [1.0, 1.9, 2.5])
    alpha = alpha_of(doubt, 0.5)
    assert alpha == pytest.approx(2500.0)
    assert (reward - penalised(reward, doubt, alpha)).mean() == pytest.approx(0.5)
    assert alpha_of(doubt * 1e6, 0.5) == pytest.approx(alpha / 1e6)  # whatever the scale of U
    assert alpha_of(np.zeros(3), 0.0) == 0.0
    with pytest.raises(BadDataError, match="nowhere above 0"):
        alpha_of(np.zeros(3), 0.5)


def test_a_branch_is_the_rollout_under_the_actions_that_the_policy_chose(optimization):
    made, given, taken = branches(optimization, "entropy")
    raw = optimization.normalizer.denormalize(made.action).reshape(3, 2, 7)
    actions = torch.from_numpy(np.concatenate([taken, raw], axis=1))
    found = rollout(optimization.dreams.world, torch.from_numpy(given), actions, 2, [entropy, imagined_frames])
    np.testing.assert_allclose(made.uncertainty.reshape(3, 2), found["entropy"].numpy(), rtol=1e-5)
    shown = np.concatenate([given[:, -1:], found["frames"].numpy()], axis=1)
    first = np.stack([optimization.demonstrations.frames(episode, 0, 1)[0] for episode in range(3)])
    taken_last = made.action.reshape(3, 2, 7)
    tokenizer = optimization.dreams.world.tokenizer
    expected = read_rewards(optimization.dreams.head, tokenizer, shown, taken_last, [""] * 3, first)
    np.testing.assert_allclose(made.reward.reshape(3, 2), expected, rtol=1e-4, atol=1e-5)


def test_what_follows_an_imagined_action_is_what_the_next_one_sees(optimization):
    made, _, _ = branches(optimization, horizon=3)
    seen, following = (each.reshape(3, 3, -1) for each in (made.seen, made.following))
    np.testing.assert_array_equal(following[:, :-1], seen[:, 1:])
    assert not (made.uncertainty != 0).any() and not np.allclose(seen[:, 0], seen[:, 1])


def test_a_branch_begins_with_what_a_recorded_transition_sees(optimization):
    made, _, _ = branches(optimization)
    policy = PixelPolicy.new(optimization.config.policy, optimization.features, optimization.live, 3)
    recorded = optimization.recorded
    for episode in range(3):
        row = np.flatnonzero(recorded.episode == episode)[3]  # frame 3 is the last given one
        np.testing.assert_allclose(made.seen.reshape(3, 2, -1)[episode, 0], recorded.seen[row], atol=1e-4)
    assert policy.config.frames == 2


def test_members_of_the_ensemble_doubt_more_than_a_model_beside_itself(optimization, project):
    world = load(project / "models", ROBOT, verify=False, checking="off")
    alike = observer("ensemble", world, [world.model, world.model], [1])
    made, _, _ = branches(optimization, "ensemble")
    copy = replace(optimization.dreams, observers={"ensemble": alike})
    assert (made.uncertainty > 0).all()
    twins = copy.imagined(
        PixelPolicy.new(optimization.config.policy, optimization.features, optimization.live, 3), "ensemble",
        np.random.default_rng(0),
    )  # fmt: skip
    assert not twins.uncertainty.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surprise": 1}, "surprise"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"ensemble": []}, "name the other members"),
        ({"arena": {"kind": "gazebo", "actions": 4}}, "arena"),
        ({"arena": {"kind": "fleet", "actions": 4, "camera": "corner"}}, "camera"),
        ({"imagination": values()["imagination"] | {"retracing_steps": [3]}}, "less than context"),
        ({"imagination": values()["imagination"] | {"penalties": ["none", "none"]}}, "named twice"),
        ({"policy": {"frames": 4, "components": 8, "hidden": 8}}, "a branch begins with"),
        ({"cloning": values()["cloning"] | {"best_share": 1.0}}, "best_share"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(changes, words):
    with pytest.raises(ConfigError, match=words):
        config(**changes)


def test_a_task_that_the_simulator_or_the_data_do_not_have_is_named(project):
    with pytest.raises(ConfigError, match="the simulator has no such task"):
        arena_of(FleetArenaConfig(kind="fleet", actions=4), "plate-slide", contract(), FORM)
    with pytest.raises(BadDataError, match="no episode of this task"):
        Demonstrations.read(ShardSet.open(project / "shards" / ROBOT), "train", "plate-slide")
