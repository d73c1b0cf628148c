"""Methods behind one interface, on the toy world and on the tiny network; rollouts scored step by step."""

import math

import pytest
import torch
from toy_world import ToyWorld

from whale.common.errors import ConfigError
from whale.evaluation.uncertainty.distances import feature_distance
from whale.evaluation.uncertainty.learned_world import LearnedWorld
from whale.evaluation.uncertainty.uncertainty import (
    Ensemble,
    Entropy,
    NoUncertainty,
    Query,
    Retracing,
    query,
    scored_rollout,
)
from whale.evaluation.uncertainty.world import History, Next, Recomputing, imagine, restarted


@pytest.fixture(scope="module")
def network(stack) -> LearnedWorld:
    return LearnedWorld(
        stack.tokenizer, stack.behavior, stack.dynamics["full"], window=4, normalize=lambda raw: raw.astype("float32")
    )


@pytest.fixture(scope="module")
def recorded():
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (3, 3, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return frames, torch.rand(3, 9, 7, generator=generator) * 2 - 1


def toy_query(world=None):
    frames = torch.zeros(2, 3, 2, dtype=torch.float64)
    actions = torch.tensor([[12.0, 0, 0, 1]] * 3, dtype=torch.float64).expand(2, 3, 4)
    return query(Recomputing(world or ToyWorld(wall=6.0)), frames, actions)


def test_any_world_model_can_be_examined_by_every_method():
    methods = [Retracing(lambda a, b: (a - b).square().mean(1), [1, 2]), Entropy(), NoUncertainty()]
    methods.append(Ensemble([ToyWorld(wall=0.0)]))
    found = {method.name: method(toy_query()).uncertainty for method in methods}
    assert all(values.shape == (2,) for values in found.values())
    torch.testing.assert_close(found["entropy"], torch.full((2,), math.log(4), dtype=torch.float64))
    assert (found["none"] == 0).all()


def test_retracing_is_disagreement_times_entropy():
    score = Retracing(lambda a, b: (a - b).square().mean(1), [1, 2])(toy_query(ToyWorld(wall=6.0, logit=2.0)))
    torch.testing.assert_close(score.uncertainty, score.parts["disagreement"] * score.parts["entropy"])


def test_a_model_without_token_probabilities_has_disagreement_and_no_entropy():
    class Silent(ToyWorld):
        def next(self, history: History, noise=None, z=None) -> Next:
            return Next(super().next(history).frame)

    assert set(Retracing(lambda a, b: (a - b).square().mean(1), [1])(toy_query(Silent())).parts) == {"disagreement"}
    with pytest.raises(ConfigError, match="no token probabilities"):
        Entropy()(toy_query(Silent()))


def test_an_ensemble_is_the_population_variance_of_its_members_images():
    """One member stops at 6, one at 0, one not at all (12): variance of (6, 0, 12) is 24, in one of two pixels."""
    score = Ensemble([ToyWorld(wall=0.0), ToyWorld()])(toy_query())
    torch.testing.assert_close(score.uncertainty, torch.full((2,), 12.0, dtype=torch.float64))


def test_equal_members_agree_and_a_lone_model_is_no_ensemble(network, recorded):
    frames, actions = recorded
    assert (Ensemble([network, network])(query(Recomputing(network), frames, actions[:, :3])).uncertainty == 0).all()
    with pytest.raises(ConfigError, match="two members"):
        Ensemble([])


def test_images_of_an_ensemble_count_in_zero_to_one(network, recorded, stack):
    frames, actions = recorded
    other = LearnedWorld(**{**vars(network), "dynamics": stack.dynamics["without_z"]})
    asked = query(Recomputing(network), frames, actions[:, :3])
    images = torch.stack([asked.plain.frame, Recomputing(other).step(asked.state, actions[:, 2])[1].frame]) / 255.0
    expected = images.double().var(dim=0, correction=0).mean((1, 2, 3))
    torch.testing.assert_close(Ensemble([other])(asked).uncertainty, expected, rtol=1e-5, atol=1e-9)


def test_a_rollout_is_the_one_of_the_world_model_token_by_token(network, recorded, stack):
    """9 actions from 3 frames at window 4: two restarts lie in between."""
    frames, actions = recorded
    expected = stack.world("full", 4).rollout(frames, actions, 7).frames
    assert torch.equal(imagine(Recomputing(network), frames, actions, 7), expected)
    found = scored_rollout(Recomputing(network), frames, actions, 7, [Retracing(feature_distance(network), [1])])
    assert torch.equal(found.frames, expected)


def test_a_score_is_that_of_the_history_the_rollout_holds_at_that_step(network, recorded):
    """Asked by itself about the fourth imagined frame: the history keeps the tokens that the dynamics chose."""
    frames, actions = recorded
    model, method = Recomputing(network), Retracing(feature_distance(network), [1])
    found = scored_rollout(model, frames, actions, 7, [method]).scores["retracing"]
    state = model.start(frames, actions[:, :2])
    for step in range(3):
        state, _ = model.step(restarted(model, state), actions[:, 2 + step])
    state = restarted(model, state)
    asked = Query(model, state, torch.cat([state.actions, actions[:, 5:6]], dim=1))
    torch.testing.assert_close(found[:, 3], method(asked).uncertainty)


def test_restarting_keeps_half_a_window_with_the_actions_between_its_frames():
    model = Recomputing(ToyWorld(window=4))
    actions = torch.arange(5.0)[None, :, None].expand(1, 5, 4).contiguous()
    state = model.start(torch.zeros(1, 1, 2), actions[:, :0])
    lengths = []
    for action in actions.unbind(1):
        state = restarted(model, state)
        lengths.append(state.length)
        assert state.actions.shape[1] == state.length - 1
        state, _ = model.step(state, action)
    assert lengths == [1, 2, 3, 4, 2]
    assert state.actions[0, :, 0].tolist() == [3.0, 4.0]
