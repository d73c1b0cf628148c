"""Closed forms of the learner: the anchor, the target, the mix; nested best episodes; what a policy sees."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_optimization import FORM, ROBOT, TASK, contract, values

from whale.control.arenas import FleetArenaConfig, arena_of, of_dataset, of_simulator
from whale.control.demonstrations import Demonstrations, best, transitions
from whale.control.learner import Batch, Learner, LearnerConfig, anchored_loss, cloning_loss, mixed
from whale.control.policy import Describer, PixelPolicy, PolicyConfig, pixel_policy, principal
from whale.control.summary import success_interval
from whale.data.spec.operations import apply_operation
from whale.data.spec.spec import load_spec
from whale.data.storage.shards import ShardSet
from whale.policies.protocol import Beginning, Observation
from whale.trials.episodes.fleet import scripted


def policy(seed: int = 0, live: tuple[bool, ...] = (True,) * 7) -> PixelPolicy:
    features = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    return PixelPolicy.new(PolicyConfig(frames=2, components=4, hidden=8), features, np.array(live), seed)


def learner(**changes) -> Learner:
    return Learner(policy(), LearnerConfig(**(values()["learner"] | {"critic_first": 0} | changes)), 0, 0.5)


def batch(seed: int = 0, rows: int = 6) -> Batch:
    torch.manual_seed(seed)
    action = torch.rand(rows, 7)
    return Batch(torch.randn(rows, 8), action, torch.rand(rows), torch.randn(rows, 8), (torch.randn(rows, 8), action))


def test_smaller_shares_of_the_best_are_parts_of_larger_ones(rng):
    value = np.round(rng.normal(size=31), 1)  # with ties
    chosen = [set(best(value, share).tolist()) for share in (0.01, 0.1, 1 / 3, 0.5, 0.99)]
    assert [len(each) for each in chosen] == [1, 4, 11, 16, 31]
    assert all(small <= large for small, large in pairwise(chosen))
    assert value[list(chosen[2])].min() >= np.delete(value, list(chosen[2])).max()
    assert best(np.array([1.0, 2.0, 2.0, 2.0]), 0.5).tolist() == [1, 2]  # ties: the lower number


def test_the_anchor_alone_is_left_without_strength_and_the_values_size_does_not_matter():
    value, anchor = torch.tensor([2.0, 4.0], requires_grad=True), torch.tensor(0.3)
    assert anchored_loss(value, anchor, 0.0).item() == pytest.approx(0.3)
    assert anchored_loss(value, anchor, 2.5).item() == pytest.approx(0.3 - 2.5)
    assert anchored_loss(value * 1000, anchor, 2.5).item() == pytest.approx(0.3 - 2.5)
    anchored_loss(value, anchor, 2.5).backward()
    torch.testing.assert_close(value.grad, torch.full((2,), -2.5 / 3.0 / 2))  # the size itself is no gradient


def test_without_strength_an_actor_step_is_one_of_cloning():
    one = learner(strength=0.0, actor_every=1)
    other, data = policy(), batch()
    one.step(data, torch.zeros(6, 7))
    optimizer = torch.optim.Adam(other.parameters(), lr=1.0e-3)
    cloning_loss(other, *data.anchor).backward()
    optimizer.step()
    for mine, theirs in zip(one.actor.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_clone_is_judged_by_live_dimensions_alone():
    acting, seen = policy(live=(True, True, False, False, False, False, True)), torch.randn(5, 8)
    said = acting(seen).detach()
    assert not said[:, 2:6].any() and (said[:, -1] > 0).all()
    other = said.clone()
    other[:, 2:6] = 9.0
    assert cloning_loss(acting, seen, other).item() == 0
    other[:, 0] += 0.3
    assert cloning_loss(acting, seen, other).item() == pytest.approx(0.09 / 3)


def test_the_target_is_the_lesser_value_discounted_on_the_scale_of_a_mean_reward():
    one, data = learner(discount=0.9, smoothing=0.0), batch()
    with torch.no_grad():
        both = one.targets["critics"](data.following, one.targets["actor"](data.following))
    expected = 0.1 * data.reward + 0.9 * torch.minimum(*both)
    torch.testing.assert_close(one.target(data, torch.ones(6, 7)), expected)
    assert not one.target(data, torch.ones(6, 7)).requires_grad


def test_targets_follow_at_their_rate_when_the_actor_steps():
    one = learner(target_rate=0.25, actor_every=2)
    before = [each.clone() for each in one.targets.parameters()]
    one.step(batch(), torch.zeros(6, 7))
    assert all(a.equal(b) for a, b in zip(before, one.targets.parameters(), strict=True))
    one.step(batch(1), torch.zeros(6, 7))
    now = [*one.actor.parameters(), *one.critics.parameters()]
    for target, old, new in zip(one.targets.parameters(), before, now, strict=True):
        torch.testing.assert_close(target.data, 0.75 * old + 0.25 * new)


def test_critics_begin_at_the_level_and_the_actor_waits_for_them():
    one, data = learner(critic_first=2, actor_every=1), batch()
    with torch.no_grad():
        assert torch.stack(one.critics(data.seen, data.action)).unique().tolist() == [0.5]
    before = [each.clone() for each in one.actor.parameters()]
    for _ in range(2):
        assert "actor_loss" not in one.step(data, torch.zeros(6, 7))
    assert all(a.equal(b) for a, b in zip(before, one.actor.parameters(), strict=True))
    assert "actor_loss" in one.step(data, torch.zeros(6, 7))
    assert not any(a.equal(b) for a, b in zip(before, one.actor.parameters(), strict=True))


def test_a_loaded_learner_goes_on_as_the_one_that_was_saved():
    one = learner()
    for number in range(3):
        one.step(batch(number), torch.randn(6, 7, generator=torch.Generator().manual_seed(number)))
    other = Learner(policy(5), one.config, 9, 0.0)
    other.load({name: value.clone() for name, value in one.tensors().items()})
    assert one.step(batch(7), torch.zeros(6, 7)) == other.step(batch(7), torch.zeros(6, 7))
    assert all(a.equal(b) for a, b in zip(one.tensors().values(), other.tensors().values(), strict=True))


def test_half_of_a_batch_is_recorded_and_the_rest_imagined(rng):
    here, there = mixed(np.arange(10), np.arange(100, 110), 8, 0.5, rng)
    assert len(here) == len(there) == 4 and here.max() < 10 <= there.min()
    assert [len(part) for part in mixed(np.arange(3), np.arange(3), 8, 1.0, rng)] == [8, 0]


def test_what_is_seen_has_variance_one_along_the_directions_in_which_frames_differ_most(rng):
    basis = np.linalg.qr(rng.normal(size=(30, 3)))[0]
    features = 5 + rng.normal(size=(200, 3)) * [3.0, 2.0, 1.0] @ basis.T
    mean, found = principal(features.astype(np.float32), 3)
    seen = (features - mean) @ found
    np.testing.assert_allclose(np.cov(seen.T, bias=True), np.eye(3), atol=1e-3)
    np.testing.assert_allclose(basis @ basis.T @ found, found, atol=1e-4)
    assert principal(features[:3].astype(np.float32), 8)[1].shape == (30, 2)


def test_transitions_see_the_frames_before_and_never_another_episode(project):
    shown = Demonstrations.read(ShardSet.open(project / "shards" / ROBOT), "train", TASK)
    assert len(shown.first) == 12 and set(shown.length) == {13}
    numbers = np.arange(shown.length.sum(), dtype=np.float32)[:, None]
    made = transitions(shown, numbers, 3, contract().normalizer)
    assert len(made) == 12 * 12
    np.testing.assert_array_equal(made.seen[:3], [[0, 0, 0], [0, 0, 1], [0, 1, 2]])
    np.testing.assert_array_equal(made.following[:2], [[0, 0, 1], [0, 1, 2]])
    np.testing.assert_array_equal(made.seen[12:14], [[13, 13, 13], [13, 13, 14]])
    assert made.episode[11] == 0 and made.episode[12] == 1
    assert np.array_equal(made.of(np.array([1])), np.arange(12, 24))
    expert = best(shown.value, 0.25)
    assert {shown.rows[number].metadata["policy"] for number in expert} <= {"expert", "noisy_low"}


def test_a_policy_that_acts_sees_what_its_transitions_saw(project):
    """In the simulator as in the recordings: the same frames give the same actions."""
    shown = Demonstrations.read(ShardSet.open(project / "shards" / ROBOT), "train", TASK)
    describe = Describer(lambda frames: frames.float().flatten(1) / 255, torch.as_tensor, 8)
    frames = np.stack([shown.frames(episode, 0, 13) for episode in (0, 4)])
    features = describe(frames.reshape(-1, 16, 16, 3)).numpy()
    acting = PixelPolicy.new(PolicyConfig(frames=2, components=4, hidden=8), features, np.ones(7, bool), 0)
    projected = np.concatenate([acting.project(describe(shown.frames(e, 0, 13))).numpy() for e in range(12)])
    made = transitions(shown, projected, 2, contract().normalizer)
    played = pixel_policy("x", acting, describe, contract().normalizer)
    actor = played.begin([Beginning(row, 0, frames[row, 0], "") for row in (0, 1)])
    for step in range(12):
        answers = actor.act([Observation(frames[row, step], "", step) for row in (0, 1)], [0, 1])
        rows = [int(made.of(np.array([episode]))[step]) for episode in (0, 4)]
        with torch.no_grad():
            said = acting(torch.from_numpy(made.seen[rows])).numpy()
        expected = contract().normalizer.denormalize(said)
        np.testing.assert_allclose(np.concatenate(answers), expected, atol=1e-5)


def test_the_expert_succeeds_where_standing_still_does_not():
    arena = arena_of(FleetArenaConfig(kind="fleet", actions=26), TASK, contract(), FORM)
    starts = arena.beginnings(4, 3)
    assert {each.scene.task.name for each in starts} == {TASK} and len({each.seed for each in starts}) == 4
    assert arena.successes(arena.expert, starts).mean() >= 0.75
    assert not arena.successes(scripted("still"), starts).any()


def test_meta_worlds_actions_are_those_of_its_spec_there_and_back(rng):
    raw = rng.uniform(-1.5, 1.5, (50, 4)).astype(np.float32)
    opening = raw[:, 3:]
    for operation in load_spec("metaworld").action.gripper.ops:
        opening = apply_operation(opening, operation.name, operation.arguments)
    for action, gripper in zip(raw, opening[:, 0], strict=True):
        canonical = of_dataset(action)
        assert canonical[6] == pytest.approx(gripper) and not canonical[3:6].any()
        np.testing.assert_allclose(of_simulator(canonical), np.clip(action, -1, 1), atol=1e-6)


def test_an_interval_over_seeds_is_wider_than_one_over_starts_alone_where_seeds_differ(rng):
    apart = np.stack([np.ones(20), np.zeros(20)])
    alike = np.tile([1.0, 0.0], (2, 10))
    wide, narrow = (success_interval(each, np.random.default_rng(0), 500) for each in (apart, alike))
    assert wide.value == narrow.value == 0.5
    assert (wide.low, wide.high) == (0.0, 1.0) and 0.3 < narrow.low < narrow.high < 0.7
