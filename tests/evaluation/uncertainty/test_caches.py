"""Uncertainties of the learned world are those of its definition, which remembers nothing from step to step."""

import copy

import pytest
import torch
from recomputed_world import RecomputedWorld
from toy_world import asked

from whale.evaluation.uncertainty.estimation.retracing import retraced
from whale.evaluation.uncertainty.estimation.uncertainty import Ensemble, Retracing, feature_distance
from whale.models.dynamics.dynamics import Dynamics
from whale.models.world.learned import LearnedWorld
from whale.models.world.noise import gumbel, row_key
from whale.models.world.rollout import rollout
from whale.models.world.world import Draw

WINDOW, BATCH = 4, 3


def masked_dynamics(stack) -> Dynamics:
    torch.manual_seed(0)
    changes = {"sampler": "maskgit", "maskgit_passes": 3, "action_mode": "prepend"}
    return Dynamics(stack.dynamics["full"].config.model_copy(update=changes))


@pytest.fixture(scope="module", params=["full", "without_z", "maskgit"])
def network(stack, request) -> LearnedWorld:
    """In float64, so that no argmax flips; raw actions are ten times the normalised ones."""
    dynamics = masked_dynamics(stack) if request.param == "maskgit" else stack.dynamics[request.param]
    parts = [copy.deepcopy(part).double() for part in (stack.tokenizer, stack.behavior, dynamics)]
    return LearnedWorld(*parts, window=WINDOW, normalize=lambda raw: raw / 10)


@pytest.fixture(scope="module")
def recorded():
    generator = torch.Generator().manual_seed(11)
    frames = torch.randint(0, 256, (BATCH, WINDOW, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return frames, 20 * torch.rand(BATCH, 3 * WINDOW, 7, generator=generator, dtype=torch.float64) - 10


@pytest.mark.parametrize("how", [{}, {"temperature": 0.7, "seed": 3}, {"z": "frozen"}, {"z": "off"}], ids=str)
def test_rollouts_beyond_the_window_are_the_same(network, recorded, how):
    given, actions = recorded
    horizon = actions.shape[1] - 1
    one, other = (
        rollout(world, given[:, :2], actions, horizon, **how)["frames"] for world in (RecomputedWorld(network), network)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("form", ["batched", "looped"])
@pytest.mark.parametrize("freeze_z", [False, True])
def test_retracing_is_the_same_with_noise_and_with_frozen_z(network, recorded, form, freeze_z):
    given, actions = recorded
    gumbels = [gumbel([row_key(position, 0, row) for row in range(BATCH)], 16, 32) for position in range(WINDOW + 1)]
    queries = [
        asked(world, given, actions[:, :WINDOW], noise=lambda position: Draw(gumbels[position], 0.7))
        for world in (RecomputedWorld(network), network)
    ]
    recomputed, cached = (retraced(query, (1, 2, 3), form=form, freeze_z=freeze_z) for query in queries)
    torch.testing.assert_close(cached.step.logits, recomputed.step.logits, rtol=0, atol=1e-9)
    assert torch.equal(cached.step.frame, recomputed.step.frame)
    assert torch.equal(queries[1].following.z, queries[0].following.z)
    for depth in (1, 2, 3):
        assert torch.equal(cached.branches[depth], recomputed.branches[depth])


def test_scores_along_a_rollout_are_the_same(network, recorded, stack):
    given, actions = recorded
    member = LearnedWorld(network.tokenizer, None, copy.deepcopy(stack.dynamics["without_z"]).double(), WINDOW)
    one, other = (
        rollout(world, given[:, :2], actions[:, :9], 8, [Retracing(feature_distance(world), (1,)), Ensemble([another])])
        for world, another in ((RecomputedWorld(network), RecomputedWorld(member)), (network, member))
    )
    assert one.keys() == other.keys() == {"retracing", "disagreement", "entropy", "ensemble"}
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=0, atol=1e-9)


def test_a_state_is_not_changed_by_what_is_continued_from_it(network, recorded):
    given, actions = recorded
    state = network.start(given[:, :3], actions[:, :2])
    first = network.step(state, actions[:, 2])[1]
    network.step(state.cut(2), actions[:, 5])
    network.step(state.stack([state, state]), actions[:, 6].repeat(2, 1))
    assert torch.equal(network.step(state, actions[:, 2])[1].logits, first.logits)
    assert torch.equal(state.actions, actions[:, :2])
