import numpy as np
import pytest

from whale.evaluation.uncertainty.correlation import Resampling
from whale.evaluation.uncertainty.filtering import PERCENT, filtered, kept_error

ERROR = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
ONCE = Resampling(np.ones((1, 100)))


def test_the_error_itself_as_score_keeps_the_smallest_ones():
    """Of 1, 2, ..., 100 the best p have the mean (p + 1) / 2; all have 50.5."""
    found = filtered(ERROR[:, None], ERROR, ONCE)
    assert {percent: ratio.value for percent, ratio in found.items()} == pytest.approx(
        {percent: (percent + 1) / 2 / 50.5 for percent in PERCENT}
    )


def test_a_score_is_added_up_over_the_steps_of_a_rollout():
    """Neither step orders the rollouts, their sum does."""
    noise = 1000 * np.random.default_rng(1).random(100)
    found = filtered(np.stack([noise, ERROR - noise], axis=1), ERROR, ONCE)
    assert found[5].value == pytest.approx(3 / 50.5)


def test_a_score_that_knows_nothing_is_as_good_as_chance_within_its_interval():
    rng = np.random.default_rng(0)
    score, error = rng.random((300, 4)), rng.gamma(2.0, size=300)
    found = filtered(score, error, Resampling.of(np.arange(300), rng, 400))
    assert all(ratio.low <= 1 <= ratio.high for ratio in found.values())
    assert (found[100].low, found[100].high) == pytest.approx((1, 1))


def test_weights_give_what_the_repeated_sample_gives():
    rng = np.random.default_rng(0)
    score, error = rng.random(12), rng.random(12)
    weights = rng.multinomial(12, np.full(12, 1 / 12), size=20)
    for row, value in zip(weights, kept_error(score, error, weights.astype(float), 0.25), strict=True):
        chosen = np.repeat(np.arange(12), row)
        best = chosen[np.argsort(score[chosen], kind="stable")][:3]
        assert value == pytest.approx(error[best].mean())


def test_of_few_rollouts_at_least_one_is_kept_and_those_without_a_score_are_left_out():
    score = np.array([[3.0], [1.0], [np.nan], [2.0]])
    found = filtered(score, np.array([9.0, 3.0, 100.0, 6.0]), Resampling(np.ones((1, 4))))
    assert found[5].value == pytest.approx(3 / 6) and found[100].value == 1
    assert filtered(np.full((2, 3), np.nan), np.ones(2), Resampling(np.ones((1, 2)))) == {}
