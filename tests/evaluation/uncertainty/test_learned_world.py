"""The cached form of our world model predicts what the recomputing one does, wherever the protocol allows to look."""

import copy

import pytest
import torch

from whale.evaluation.uncertainty.distances import feature_distance
from whale.evaluation.uncertainty.learned_world import CachedWorld, LearnedWorld
from whale.evaluation.uncertainty.retracing import retraced
from whale.evaluation.uncertainty.uncertainty import Entropy, Retracing, scored_rollout
from whale.evaluation.uncertainty.world import Recomputing, imagine
from whale.models.behavior.categorical import gumbel
from whale.models.dynamics.dynamics import Dynamics

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
    return LearnedWorld(*parts, window=WINDOW, normalize=lambda raw: raw / 10, temperature=0.7)


@pytest.fixture(scope="module")
def recorded():
    generator = torch.Generator().manual_seed(11)
    frames = torch.randint(0, 256, (BATCH, WINDOW, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return frames, 20 * torch.rand(BATCH, 3 * WINDOW, 7, generator=generator, dtype=torch.float64) - 10


def test_rollouts_beyond_the_window_are_the_same(network, recorded):
    frames, actions = recorded
    horizon = actions.shape[1] - 1
    imagined = [
        imagine(model, frames[:, :2], actions, horizon) for model in (Recomputing(network), CachedWorld(network))
    ]
    assert torch.equal(*imagined)


@pytest.mark.parametrize("form", ["batched", "looped"])
@pytest.mark.parametrize("freeze_z", [False, True])
def test_retracing_is_the_same_with_noise_and_with_frozen_z(network, recorded, form, freeze_z):
    frames, actions = recorded
    noise = [gumbel((BATCH, 16, 32), torch.Generator().manual_seed(position)) for position in range(WINDOW + 1)]
    found = []
    for model in (Recomputing(network), CachedWorld(network)):
        state = model.start(frames, actions[:, : WINDOW - 1])
        found.append(
            retraced(
                model, state, actions[:, :WINDOW], (1, 2, 3), form=form, freeze_z=freeze_z, noise=noise.__getitem__
            )
        )
    recomputed, cached = found
    torch.testing.assert_close(cached.plain.logits, recomputed.plain.logits, rtol=0, atol=1e-9)
    assert torch.equal(cached.plain.frame, recomputed.plain.frame)
    assert torch.equal(cached.plain.z, recomputed.plain.z)
    for depth in (1, 2, 3):
        assert torch.equal(cached.branches[depth], recomputed.branches[depth])


def test_scores_along_a_rollout_are_the_same(network, recorded):
    frames, actions = recorded
    methods = [Retracing(feature_distance(network), (1,)), Entropy()]
    scores = [
        scored_rollout(model, frames[:, :2], actions[:, :9], 8, methods).scores
        for model in (Recomputing(network), CachedWorld(network))
    ]
    assert scores[0].keys() == scores[1].keys()
    for name in scores[0]:
        torch.testing.assert_close(scores[1][name], scores[0][name], rtol=0, atol=1e-9)


def test_a_state_is_not_changed_by_what_is_continued_from_it(network, recorded):
    frames, actions = recorded
    model = CachedWorld(network)
    state = model.start(frames[:, :3], actions[:, :2])
    first = model.step(state, actions[:, 2])[1]
    model.step(model.cut(state, 2), actions[:, 5])
    model.step(model.stack([state, state]), actions[:, 6].repeat(2, 1))
    assert torch.equal(model.step(state, actions[:, 2])[1].logits, first.logits)
    assert torch.equal(model.history(state).actions, actions[:, :2])
