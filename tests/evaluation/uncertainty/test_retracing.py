"""The nine property tests of retracing, on worlds small enough for exact arithmetic and on a real random network."""

import copy

import numpy as np
import pytest
import torch
from toy_world import ToyWorld

from whale.common.errors import ConfigError, RefusedError
from whale.evaluation.uncertainty.distances import feature_distance
from whale.evaluation.uncertainty.learned_world import LearnedWorld
from whale.evaluation.uncertainty.retracing import action_layout, require_retraceable, retrace, retraced, usable_depths
from whale.evaluation.uncertainty.uncertainty import Retracing, query
from whale.evaluation.uncertainty.world import Recomputing
from whale.models.behavior.categorical import gumbel

DEPTHS = (1, 2, 3)


def history(world, length: int = 5, batch: int = 6, seed: int = 0):
    """Integer actions divisible by 2, 3 and 4, so that every mean is exact: frames o_w..o_t and actions a_w..a_t."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randint(-3, 4, (batch, length, 4), generator=generator).to(torch.float64) * 12
    model = Recomputing(world)
    state = model.start(torch.zeros(batch, 1, 2, dtype=torch.float64), actions[:, :0])
    for action in actions[:, :-1].unbind(1):
        state, _ = model.step(state, action)
    return model, state.frames, actions


def disagreement(model, frames, actions, depths=DEPTHS, **options):
    method = Retracing(feature_distance(model), depths, **options)
    return method(query(model, frames, actions)).parts["disagreement"]


@pytest.fixture(scope="module")
def network(stack) -> LearnedWorld:
    """The tiny random network in float64, so that no tie flips; actions count as normalised."""
    parts = [copy.deepcopy(part).double() for part in (stack.tokenizer, stack.behavior, stack.dynamics["full"])]
    return LearnedWorld(*parts, window=4, normalize=lambda raw: raw)


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
    assert (Retracing(feature_distance(model), DEPTHS)(query(model, frames, actions)).uncertainty == 0).all()


@pytest.mark.parametrize("form", ["batched", "looped"])
def test_2_branches_of_constant_actions_regenerate_a_history_that_the_same_model_imagined(network, recorded, form):
    frames, actions = recorded
    constant = actions[:, :1].expand(-1, 4, -1)
    model = Recomputing(network)
    state = model.start(frames[:, :1], constant[:, :0])
    for _ in range(3):
        state, _ = model.step(state, constant[:, 0])
    found = retraced(model, state, constant, DEPTHS, form=form)
    for branch in found.branches.values():
        torch.testing.assert_close(branch, found.plain.frame, rtol=0, atol=0)


def test_3_a_wall_makes_the_path_matter():
    model = Recomputing(ToyWorld(wall=10.0))
    frames = torch.tensor([[[0.0, 0.0], [10.0, 0.0]]], dtype=torch.float64)  # the first action ran into the wall
    actions = torch.tensor([[[24.0, 0, 0, 1], [-12.0, 0, 0, 1]]], dtype=torch.float64)
    assert disagreement(model, frames, actions, [1])[0] > 0


def test_4_depth_0_alone_never_disagrees_and_without_a_usable_depth_there_is_no_uncertainty():
    model, frames, actions = history(ToyWorld(wall=5.0))
    assert (disagreement(model, frames, actions, [0]) == 0).all()
    score = Retracing(feature_distance(model), DEPTHS)(query(model, frames[:, :1], actions[:, :1]))
    assert score.uncertainty.isnan().all() and score.parts["entropy"].isfinite().all()


def test_5_a_branch_does_not_see_the_order_of_the_actions_it_folds(network, recorded):
    frames, actions = recorded
    actions = (actions * 64).round() / 64  # sums of such numbers do not depend on their order
    shuffled = actions.clone()
    shuffled[:, :, :6] = actions[:, [2, 0, 3, 1], :6]  # poses of a_s..a_t
    shuffled[:, :3, 6] = actions[:, [1, 2, 0], 6]  # grippers of a_s..a_{t-1}
    one, other = (
        retraced(model, model.start(frames, taken[:, :-1]), taken, [3])
        for model, taken in ((Recomputing(network), actions), (Recomputing(network), shuffled))
    )
    torch.testing.assert_close(one.branches[3], other.branches[3], rtol=0, atol=0)
    assert (one.plain.frame != other.plain.frame).any()


def test_6_uniform_token_probabilities_have_an_entropy_of_ln_v(network, recorded):
    """The head is tied to the embedding, so a zero embedding makes all logits equal."""
    world = LearnedWorld(**{**vars(network), "dynamics": copy.deepcopy(network.dynamics)})
    torch.nn.init.zeros_(world.dynamics.tokens.weight)
    frames, actions = recorded
    asked = query(Recomputing(world), frames, actions)
    np.testing.assert_allclose(asked.plain.entropy(), np.log(32), rtol=1e-6)


@pytest.mark.parametrize("freeze_z", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
def test_7_batched_and_looped_choose_the_same_tokens(network, recorded, freeze_z, sampled):
    frames, actions = recorded
    noise = None
    if sampled:
        drawn = [gumbel((3, 16, 32), torch.Generator().manual_seed(position)) for position in range(5)]
        noise = drawn.__getitem__
    model = Recomputing(network)
    batched, looped = (
        retraced(
            model, model.start(frames, actions[:, :-1]), actions, DEPTHS, form=form, noise=noise, freeze_z=freeze_z
        )
        for form in ("batched", "looped")
    )
    assert torch.equal(batched.plain.tokens, looped.plain.tokens)
    assert torch.equal(batched.state.tokens, looped.state.tokens)
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
        def next(self, history, noise=None, z=None):
            calls.append(len(history.frames))
            return super().next(history, noise, z)

    model, frames, actions = history(ToyWorld())
    model = Recomputing(Counting())
    for form, expected in (("batched", [6, 12, 18, 24]), ("looped", [6] * 10)):
        calls.clear()
        retraced(model, model.start(frames, actions[:, :-1]), actions, DEPTHS, form=form)
        assert calls == expected


def test_with_common_random_numbers_equal_paths_draw_equal_tokens(network, recorded):
    """Temperature alone makes no disagreement: the noise of a (frame, token) is the same in every row."""
    frames, actions = recorded
    constant = actions[:, :1].expand(-1, 2, -1)
    noise = [gumbel((3, 16, 32), torch.Generator().manual_seed(position)) for position in range(3)].__getitem__
    model = Recomputing(network)
    state, _ = model.step(model.start(frames[:, :1], constant[:, :0]), constant[:, 0], noise(1))
    found = retraced(model, state, constant, [1], noise=noise)
    assert torch.equal(found.branches[1], found.plain.frame)


def test_frozen_z_is_that_of_the_plain_history(network, recorded):
    frames, actions = recorded
    asked = []

    class Asking(LearnedWorld):
        def next(self, history, noise=None, z=None):
            asked.append(z)
            return super().next(history, noise, z)

    model = Recomputing(Asking(**vars(network)))
    retraced(model, model.start(frames, actions[:, :-1]), actions, [2], form="looped", freeze_z=True)
    plain = network.next(model.start(frames, actions[:, :-1]).__class__(frames, actions, network.encode(frames))).z
    for given in asked[1:]:
        assert torch.equal(given, plain[:, : given.shape[1]])


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
    mixed = method(query(model, frames, actions, is_first=is_first)).uncertainty
    alone = Retracing(feature_distance(model), [1])(query(model, frames[:1], actions[:1])).uncertainty
    torch.testing.assert_close(mixed[:1], alone)
    torch.testing.assert_close(mixed[1:], method(query(model, frames[1:], actions[1:])).uncertainty)


def test_absolute_actions_and_unknown_layouts_are_refused():
    require_retraceable({"retraceable": True}, "toto")
    with pytest.raises(RefusedError, match="retraceable"):
        require_retraceable({"retraceable": False}, "dobbe")
    with pytest.raises(ConfigError, match="add up to a pose"):
        action_layout(14)
