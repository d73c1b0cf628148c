"""Retracing, entropy and an ensemble as observers, on the toy world and on the tiny network."""

import math

import pytest
import torch
from toy_world import ToyWorld, asked

from whale.common.errors import ConfigError
from whale.evaluation.uncertainty.estimation.uncertainty import Ensemble, Retracing, feature_distance
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import Query, entropy, frames, rollout
from whale.models.world.state import Step


def squared(left, right):
    return (left - right).square().mean(1)


@pytest.fixture(scope="module")
def network(stack) -> LearnedWorld:
    return LearnedWorld(stack.tokenizer, stack.behavior, stack.dynamics["full"], window=4)


@pytest.fixture(scope="module")
def recorded():
    generator = torch.Generator().manual_seed(1)
    given = torch.randint(0, 256, (3, 3, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return given, torch.rand(3, 9, 7, generator=generator) * 2 - 1


def toy_query(world=None) -> Query:
    given = torch.zeros(2, 3, 2, dtype=torch.float64)
    actions = torch.tensor([[12.0, 0, 0, 1]] * 3, dtype=torch.float64).expand(2, 3, 4)
    return asked(world or ToyWorld(wall=6.0), given, actions)


def test_any_world_can_be_examined_by_every_method():
    found = {}
    for observe in (Retracing(squared, [1, 2]), entropy, Ensemble([ToyWorld(wall=0.0)])):
        found |= observe(toy_query())
    assert found.keys() == {"retracing", "disagreement", "entropy", "ensemble"}
    assert all(values.shape == (2,) for values in found.values())
    torch.testing.assert_close(found["entropy"], torch.full((2,), math.log(4), dtype=torch.float64))


def test_retracing_is_disagreement_times_entropy():
    score = Retracing(squared, [1, 2])(toy_query(ToyWorld(wall=6.0, logit=2.0)))
    torch.testing.assert_close(score["retracing"], score["disagreement"] * score["entropy"])


def test_a_world_without_token_probabilities_has_disagreement_and_no_entropy():
    class Silent(ToyWorld):
        def step(self, state, action_BA, draw=None, z=None):
            following, step = super().step(state, action_BA)
            return following, Step(step.frame)

    score = Retracing(squared, [1])(toy_query(Silent(wall=6.0)))
    assert score.keys() == {"retracing", "disagreement"} and torch.equal(score["retracing"], score["disagreement"])
    with pytest.raises(ConfigError, match="no token probabilities"):
        entropy(toy_query(Silent()))


def test_an_ensemble_is_the_population_variance_of_its_members_images():
    """One member stops at 6, one at 0, one not at all (12): variance of (6, 0, 12) is 24, in one of two pixels."""
    score = Ensemble([ToyWorld(wall=0.0), ToyWorld()])(toy_query())
    torch.testing.assert_close(score["ensemble"], torch.full((2,), 12.0, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_equal_members_agree_and_a_lone_model_is_no_ensemble(network, recorded, temperature):
    """Also beyond a window, where the history's tokens are not what the encoder says of its frames; all draw alike."""
    given, actions = recorded
    found = rollout(network, given, actions, 7, [Ensemble([network, network])], temperature=temperature)
    assert (found["ensemble"] == 0).all()
    with pytest.raises(ConfigError, match="two members"):
        Ensemble([])


def test_images_of_an_ensemble_count_in_zero_to_one(network, recorded, stack):
    given, actions = recorded
    other = LearnedWorld(stack.tokenizer, stack.behavior, stack.dynamics["without_z"], window=4)
    mine, theirs = (asked(world, given, actions[:, :3]) for world in (network, other))
    images = torch.stack([mine.step.frame, theirs.step.frame]) / 255.0
    expected = images.double().var(dim=0, correction=0).mean((1, 2, 3))
    torch.testing.assert_close(Ensemble([other])(mine)["ensemble"], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("temperature", "samples"), [(0.0, 1), (1.0, 1), (1.0, 3)])
def test_being_asked_changes_no_frame_of_a_rollout(network, recorded, temperature, samples):
    given, actions = recorded
    methods = [Retracing(feature_distance(network), [1], samples), entropy, frames]
    found, plain = (
        rollout(network, given, actions, 7, observers, temperature=temperature) for observers in (methods, [frames])
    )
    assert torch.equal(found["frames"], plain["frames"])


def test_of_several_draws_the_disagreement_is_the_mean_and_the_entropy_is_that_of_one(network, recorded):
    given, actions = recorded
    distance = feature_distance(network)

    def each(query: Query):
        alone = [Retracing(distance, [1, 2])(query.redrawn(sample))["disagreement"] for sample in range(3)]
        mean = Retracing(distance, [1, 2], samples=3)(query)
        plain = Retracing(distance, [1, 2])(query)
        return {"alone": torch.stack(alone), "mean": mean["disagreement"], "entropy": mean["entropy"],
                "first": plain["disagreement"], "plain_entropy": plain["entropy"]}  # fmt: skip

    found = rollout(network, given, actions[:, :3], 1, [each], temperature=1.0)
    alone = found["alone"].reshape(3, -1)
    torch.testing.assert_close(found["mean"][:, 0], alone.mean(dim=0))
    torch.testing.assert_close(found["first"][:, 0], alone[0])
    assert (alone[0] != alone[1]).any()
    torch.testing.assert_close(found["entropy"], found["plain_entropy"])


def test_what_argmax_says_cannot_be_drawn_again(network, recorded):
    given, actions = recorded
    with pytest.raises(ConfigError, match="not drawn"):
        rollout(network, given, actions[:, :3], 1, [Retracing(feature_distance(network), [1], samples=2)])


def test_a_score_is_that_of_the_history_the_rollout_holds_at_that_step(network, recorded):
    """Asked by itself about the fourth imagined frame: the history keeps the tokens that the dynamics chose."""
    given, actions = recorded
    method = Retracing(feature_distance(network), [1])
    found = rollout(network, given, actions, 7, [method])["retracing"]
    state = network.start(given, actions[:, :2])
    for step in range(3):
        state, _ = network.step(network.restarted(state), actions[:, 2 + step])
    query = Query(network, network.restarted(state), actions[:, 5])
    torch.testing.assert_close(found[:, 3], method(query)["retracing"])
