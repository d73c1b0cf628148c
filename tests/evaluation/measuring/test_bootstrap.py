import numpy as np

from whale.evaluation.measuring.bootstrap import mean_interval, paired_interval


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
