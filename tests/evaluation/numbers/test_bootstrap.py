import numpy as np
import pytest

from whale.evaluation.numbers.bootstrap import mean_interval, paired_interval, ratio_interval, unpaired_interval


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_the_point_estimate_is_the_plain_mean_without_nan():
    values = np.array([[1.0, np.nan], [3.0, 5.0]])
    assert mean_interval(values, np.array([0, 1]), _rng()).value == 3.0


def test_the_interval_of_many_independent_values_is_the_normal_one():
    values = np.random.default_rng(0).normal(2.0, 1.0, 1000)
    interval = mean_interval(values, np.arange(1000), _rng(), resamples=4000)
    half = 1.96 / np.sqrt(1000)
    np.testing.assert_allclose([interval.low, interval.high], values.mean() + np.array([-half, half]), atol=0.008)


def test_repeating_a_value_within_an_episode_does_not_narrow_the_interval():
    values, episode = np.random.default_rng(0).normal(size=30), np.arange(30)
    once = mean_interval(values, episode, _rng())
    often = mean_interval(values.repeat(50), episode.repeat(50), _rng())
    np.testing.assert_allclose([once.low, once.high], [often.low, often.high])


def test_pairing_removes_what_both_sides_share():
    shared = np.random.default_rng(0).normal(0, 100, 50)
    interval = paired_interval(shared + 1.0, shared, np.arange(50), _rng())
    np.testing.assert_allclose([interval.value, interval.low, interval.high], 1.0)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(size=20)
    assert mean_interval(values, np.arange(20), _rng()) == mean_interval(values, np.arange(20), _rng())


def test_without_any_value_the_interval_is_nan():
    assert np.isnan(mean_interval(np.full(3, np.nan), np.arange(3), _rng()).value)


def test_a_ratio_is_that_of_sums_and_equal_episodes_leave_no_doubt():
    episode = np.array([0, 0, 1, 2])
    found = ratio_interval(np.array([1, 2, 3, 6]), np.array([2, 4, 6, 12]), episode, np.random.default_rng(0), 100)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    mixed = ratio_interval(np.array([1.0, 0.0]), np.array([1.0, 3.0]), np.arange(2), np.random.default_rng(0), 500)
    assert mixed.value == 0.25 and mixed.low == 0.0 and mixed.high == 1.0


def test_an_unpaired_difference_doubts_both_sides():
    left, right = np.array([1.0, 1.0, 3.0, 3.0]), np.array([0.0, 0.0, 4.0])
    found = unpaired_interval(left, np.arange(4), right, np.array([5, 5, 6]), np.random.default_rng(0), 2000)
    assert found.value == pytest.approx(2 - 4 / 3) and found.low < -1 and found.high > 2
    same = unpaired_interval(left * 0 + 2, np.arange(4), right * 0 + 2, np.arange(3), np.random.default_rng(0), 100)
    assert (same.value, same.low, same.high) == (0, 0, 0)
