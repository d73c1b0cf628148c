"""What z gains by remembering: the same numbers as counted by hand, and nothing where there is nothing to remember."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from whale.common.errors import BadDataError, ConfigError
from whale.evaluation.by_hand.behavior_gain import Compared, _partners, foreign_z_gains, likelihood_gains, rollout_gains
from whale.evaluation.measuring.rollouts.fidelity import psnr
from whale.evaluation.measuring.rollouts.heldout import read_segments, read_windows
from whale.evaluation.measuring.rollouts.imagination import rollouts
from whale.evaluation.video.likelihood import token_likelihood
from whale.models.behavior.behavior import BehaviorModel

MEMORY, WINDOW = 8, 4


@pytest.fixture(scope="module")
def compared(stack, dataset) -> Compared:
    behavior = BehaviorModel(stack.behavior.config.model_copy(update={"memory": MEMORY})).eval()
    behavior.load_state_dict(stack.behavior.state_dict())
    return Compared(replace(stack, behavior=behavior), dataset, resamples=50)


def test_a_table_that_remembers_nothing_gains_nothing_over_z_of_the_window(compared):
    gains = likelihood_gains(compared, "train", 10)
    assert {len(row) for row in gains.values()} == {WINDOW}
    assert all(abs(each.value) < 1e-6 for each in gains["remembered - window"])
    assert any(abs(each.value) > 1e-6 for each in gains["remembered - without"])


def test_nll_gains_are_nats_of_a_whole_frame_of_segments_behind_a_whole_history(compared, stack, dataset):
    segments = read_segments(dataset, "train", 10)
    starts = np.concatenate([np.arange((segments.episode == each).sum()) for each in np.unique(segments.episode)])
    kept = (starts >= 1) & segments.is_full  # a segment before it: four steps and its own make the memory
    parts = (segments.tokens[kept], segments.actions[kept], segments.z_log_probs[kept])
    nll = {name: token_likelihood(stack.dynamics[name], *parts, 8).nll for name in ("full", "without_z")}
    expected = 16 * (nll["without_z"] - nll["full"]).mean(axis=0)
    found = [each.value for each in likelihood_gains(compared, "train", 10)["remembered - without"]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rollouts_give_the_steps_before_the_window_to_who_remembers(compared, dataset):
    bands = [(1, 1), (2, 5)]
    gains = rollout_gains(compared, "train", 10, seen=2, horizon=5, bands=bands)
    windows = read_windows(dataset, "train", 4 + 2 + 5, 10, 1)
    truth = windows.frames[:, 6:]
    remembered = rollouts(compared.world("remembered"), windows.frames[:, :6], windows.actions, 5, 8, seen=2)["frames"]
    short = (windows.frames[:, 4:6], windows.actions[:, 4:])
    without = rollouts(compared.world("without"), *short, 5, 8)["frames"]
    expected = psnr(truth, remembered) - psnr(truth, without)
    found = [each.value for each in gains["remembered - without"]]
    np.testing.assert_allclose(found, [expected[:, 0].mean(), expected[:, 1:].mean()], atol=1e-9)
    assert compared.world("window").memory == 0 and compared.world("remembered").memory == MEMORY
    assert compared.stack.behavior.config.memory == MEMORY  # whose world forgets has its own config


def test_without_a_memory_and_without_long_episodes_it_says_so(stack, dataset, compared):
    with pytest.raises(ConfigError, match="remembers nothing beyond the window"):
        Compared(stack, dataset)
    longer = BehaviorModel(stack.behavior.config.model_copy(update={"memory": 64})).eval()
    with pytest.raises(BadDataError, match="no segment has a whole history"):
        likelihood_gains(Compared(replace(stack, behavior=longer), dataset), "train", 10)


def test_z_is_borrowed_from_the_next_episode_of_the_same_or_of_another_policy_at_the_same_step():
    segments = SimpleNamespace(episode=np.array([0, 0, 1, 1, 2, 2, 3]))
    assert _partners(segments, ["a", "b", "a", "b"], same=True).tolist() == [4, 5, 6, 6, 0, 1, 2]
    assert _partners(segments, ["a", "b", "a", "b"], same=False).tolist() == [2, 3, 4, 5, 6, 6, 0]
    with pytest.raises(BadDataError, match="no other episode"):
        _partners(segments, ["a", "b", "c", "a"], same=True)


def test_whose_z_it_is_matters_to_a_model_that_looks_at_it_and_to_no_other(compared):
    policies = ["a", "b"] * 3  # of six episodes
    blind = foreign_z_gains(replace(compared, with_z="without_z"), "train", 10, policies)
    assert all(each.value == 0 for row in blind.values() for each in row)
    seeing = foreign_z_gains(compared, "train", 10, policies)
    assert set(seeing) == {"own - same policy's", "same policy's - another's"}
    assert all(any(each.value != 0 for each in row) for row in seeing.values())


def test_who_acts_is_read_from_the_episodes(compared):
    with pytest.raises(BadDataError, match="no other episode to take z from"):
        foreign_z_gains(compared, "train", 10)  # these name nobody: one policy in all
