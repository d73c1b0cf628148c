"""The nine property tests of retracing, on worlds small enough for exact arithmetic and on a real random network."""

import copy

import numpy as np
import pytest
import torch
from recomputed_world import RecomputedWorld
from toy_world import ToyWorld, asked

from whale.common.errors import ConfigError, RefusedError
from whale.evaluation.uncertainty.estimation.retracing import (
    action_layout,
    require_retraceable,
    retrace,
    retraced,
    usable_depths,
)
from whale.evaluation.uncertainty.estimation.uncertainty import Retracing, feature_distance
from whale.models.world.learned import LearnedWorld
from whale.models.world.noise import gumbel, row_key
from whale.models.world.rollout import Query, rollout, tokens
from whale.models.world.world import Draw

DEPTHS = (1, 2, 3)


def history(world, length: int = 5, batch: int = 6, seed: int = 0):
    """Integer actions divisible by 2, 3 and 4, so that every mean is exact: frames o_w..o_t and actions a_w..a_t."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randint(-3, 4, (batch, length, 4), generator=generator).to(torch.float64) * 12
    state = world.start(torch.zeros(batch, 1, 2, dtype=torch.float64), actions[:, :0])
    for action in actions[:, :-1].unbind(1):
        state, _ = world.step(state, action)
    return world, state.frames, actions


def disagreement(model, frames, actions, depths=DEPTHS, **options):
    method = Retracing(feature_distance(model), depths, **options)
    return method(asked(model, frames, actions))["disagreement"]


@pytest.fixture(scope="module")
def network(stack) -> LearnedWorld:
    """The tiny random network in float64, so that no tie flips; actions count as normalised."""
    parts = [copy.deepcopy(part).double() for part in (stack.tokenizer, stack.behavior, stack.dynamics["full"])]
    return LearnedWorld(*parts, window=4)


@pytest.fixture(scope="module")
def recorded():
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (3, 4, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return frames, torch.rand(3, 4, 7, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("logit", [0.0, 50.0])
def test_1_a_linear_world_has_exactly_no_disagreement_so_no_uncertainty_whatever_the_entropy(logit):
    model, frames, actions = history(ToyWorld(logit=logit))
    for depth in DEPTHS:
        assert (disagreement(model, frames, actions, [depth]) == 0).all()
    assert (Retracing(feature_distance(model), DEPTHS)(asked(model, frames, actions))["retracing"] == 0).all()


@pytest.mark.parametrize("form", ["batched", "looped"])
def test_2_branches_of_constant_actions_regenerate_a_history_that_the_same_model_imagined(network, recorded, form):
    frames, actions = recorded
    constant = actions[:, :1].expand(-1, 4, -1)
    state = network.start(frames[:, :1], constant[:, :0])
    for _ in range(3):
        state, _ = network.step(state, constant[:, 0])
    found = retraced(Query(network, state, constant[:, 0]), DEPTHS, form=form)
    for branch in found.branches.values():
        torch.testing.assert_close(branch, found.step.frame, rtol=0, atol=0)


def test_3_a_wall_makes_the_path_matter():
    model = ToyWorld(wall=10.0)
    frames = torch.tensor([[[0.0, 0.0], [10.0, 0.0]]], dtype=torch.float64)  # the first action ran into the wall
    actions = torch.tensor([[[24.0, 0, 0, 1], [-12.0, 0, 0, 1]]], dtype=torch.float64)
    assert disagreement(model, frames, actions, [1])[0] > 0


def test_4_depth_0_alone_never_disagrees_and_without_a_usable_depth_there_is_no_uncertainty():
    model, frames, actions = history(ToyWorld(wall=5.0))
    assert (disagreement(model, frames, actions, [0]) == 0).all()
    score = Retracing(feature_distance(model), DEPTHS)(asked(model, frames[:, :1], actions[:, :1]))
    assert score["retracing"].isnan().all() and score["entropy"].isfinite().all()


def test_5_a_branch_does_not_see_the_order_of_the_actions_it_folds(network, recorded):
    frames, actions = recorded
    actions = (actions * 64).round() / 64  # sums of such numbers do not depend on their order
    shuffled = actions.clone()
    shuffled[:, :, :6] = actions[:, [2, 0, 3, 1], :6]  # poses of a_s..a_t
    shuffled[:, :3, 6] = actions[:, [1, 2, 0], 6]  # grippers of a_s..a_{t-1}
    one, other = (retraced(asked(network, frames, taken), [3]) for taken in (actions, shuffled))
    torch.testing.assert_close(one.branches[3], other.branches[3], rtol=0, atol=0)
    assert (one.step.frame != other.step.frame).any()


def test_6_uniform_token_probabilities_have_an_entropy_of_ln_v(network, recorded):
    """The head is tied to the embedding, so a zero embedding makes all logits equal."""
    world = LearnedWorld(network.tokenizer, network.behavior, copy.deepcopy(network.dynamics), network.window)
    torch.nn.init.zeros_(world.dynamics.tokens.weight)
    frames, actions = recorded
    np.testing.assert_allclose(asked(world, frames, actions).step.entropy(), np.log(32), rtol=1e-6)


@pytest.mark.parametrize("freeze_z", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
def test_7_batched_and_looped_choose_the_same_tokens(network, recorded, freeze_z, sampled):
    frames, actions = recorded
    noise = None
    if sampled:
        drawn = [Draw(gumbel([row_key(position, 0, row) for row in range(3)], 16, 32)) for position in range(5)]
        noise = drawn.__getitem__
    one, other = (asked(network, frames, actions, noise=noise) for _ in range(2))
    batched = retraced(one, DEPTHS, form="batched", freeze_z=freeze_z)
    looped = retraced(other, DEPTHS, form="looped", freeze_z=freeze_z)
    assert torch.equal(batched.step.tokens, looped.step.tokens)
    assert torch.equal(one.following.tokens, other.following.tokens)
    for depth in DEPTHS:
        assert torch.equal(batched.branches[depth], looped.branches[depth])


def test_8_every_retraced_action_keeps_the_gripper_of_the_last():
    actions = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(retrace(actions)[:, 6], actions[:, -1, 6])


@pytest.mark.parametrize("size", [4, 7])
def test_9_n_retraced_steps_add_up_to_the_same_pose(size):
    actions = torch.randn(3, 4, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(4 * retrace(actions)[:, : size - 1], actions[:, :, : size - 1].sum(dim=1))


def test_the_mean_action_commutes_with_an_affine_normalisation_and_stays_in_range():
    actions = torch.rand(3, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(retrace(2 * actions - 1), 2 * retrace(actions) - 1)
    assert retrace(actions).abs().max() <= 1


def test_batched_form_needs_as_many_sequential_steps_as_the_deepest_branch_and_no_row_step_more():
    calls = []

    class Counting(ToyWorld):
        def step(self, state, action_BA, draw=None, z=None):
            calls.append(len(action_BA))
            return super().step(state, action_BA, draw, z)

    _, frames, actions = history(ToyWorld())
    for form, expected in (("batched", [6, 12, 18, 24]), ("looped", [6] * 10)):
        calls.clear()
        retraced(asked(Counting(), frames, actions), DEPTHS, form=form)
        assert calls == expected


def test_with_common_random_numbers_equal_paths_draw_equal_tokens(network, recorded):
    """Temperature alone makes no disagreement: a frame of a rollout is drawn with the same numbers in every branch."""
    frames, actions = recorded
    constant = actions[:, :1].expand(-1, 4, -1)
    observers = [Retracing(feature_distance(network), [1, 2, 3]), tokens]
    found = rollout(network, frames[:, :1], constant, 4, observers, temperature=1.0, seed=5)
    assert found["disagreement"][:, 0].isnan().all() and (found["disagreement"][:, 1:] == 0).all()
    assert torch.equal(
        found["tokens"], rollout(network, frames[:, :1], constant, 4, [tokens], temperature=1.0, seed=5)["tokens"]
    )


def test_frozen_z_is_that_of_the_plain_history(network, recorded):
    frames, actions = recorded
    taken = []

    class Noting(RecomputedWorld):
        def step(self, state, action_BA, draw=None, z=None):
            taken.append(z)
            return super().step(state, action_BA, draw, z)

    query = asked(Noting(network), frames, actions)
    retraced(query, [2], form="looped", freeze_z=True)
    plain = network.step(network.start(frames, actions[:, :-1]), actions[:, -1])[0].z
    assert taken[0] is None and torch.equal(torch.stack(taken[1:], dim=1), plain[:, 1:])


def test_a_depth_counts_where_it_fits_where_no_episode_begins_and_where_there_is_an_outcome():
    actions = torch.zeros(3, 4, 7)
    actions[1, 0, 6] = 1.0  # row 1 toggles the gripper between its first two actions
    is_first = torch.zeros(3, 4, dtype=torch.bool)
    is_first[0, 2] = True  # row 0: a new episode begins at o_3, and t = 4
    is_end = torch.tensor([False, False, True])
    found = usable_depths(actions, [1, 2, 3, 4], is_first=is_first, is_end=is_end, drop_on_gripper_change=True)
    assert found.tolist() == [[True, False, False, False], [True, True, False, False], [False] * 4]


def test_rows_may_use_different_depths():
    model, frames, actions = history(ToyWorld(wall=5.0))
    is_first = torch.zeros(6, 5, dtype=torch.bool)
    is_first[0, 3] = True
    method = Retracing(feature_distance(model), DEPTHS)
    mixed = method(asked(model, frames, actions, is_first=is_first))["retracing"]
    alone = Retracing(feature_distance(model), [1])(asked(model, frames[:1], actions[:1]))["retracing"]
    torch.testing.assert_close(mixed[:1], alone)
    torch.testing.assert_close(mixed[1:], method(asked(model, frames[1:], actions[1:]))["retracing"])


def test_absolute_actions_and_unknown_layouts_are_refused():
    require_retraceable({"retraceable": True}, "toto")
    with pytest.raises(RefusedError, match="retraceable"):
        require_retraceable({"retraceable": False}, "dobbe")
    with pytest.raises(ConfigError, match="add up to a pose"):
        action_layout(14)
