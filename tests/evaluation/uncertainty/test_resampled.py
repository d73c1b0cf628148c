import numpy as np
import pytest
from scipy import stats

from whale.evaluation.uncertainty import correlation
from whale.evaluation.uncertainty.resampled import interval, pearson, per_rollout, spearman, weighted_ranks, within_step

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 8)).round(1)  # rounded: ties
Y = (0.5 * X + RNG.normal(size=(12, 8))).round(1)
X[3, 2], Y[5, 5] = np.nan, np.nan


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_weights_give_the_statistic_of_the_repeated_sample(name):
    """Each resample, drawn out in full and handed to scipy."""
    weights = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), size=20)
    found = {"pearson": pearson, "spearman": spearman}[name](X, Y, weights.astype(float))
    for row, value in zip(weights, found, strict=True):
        chosen = np.repeat(np.arange(12), row)
        x, y = X[chosen].ravel(), Y[chosen].ravel()
        both = np.isfinite(x) & np.isfinite(y)
        plain = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[name]
        assert value == pytest.approx(plain(x[both], y[both]).statistic, abs=1e-12)


def test_weighted_ranks_are_the_ranks_of_the_repeated_sample():
    values, weights = np.array([5.0, 1.0, 5.0, 9.0]), np.array([[1.0, 2.0, 1.0, 0.0]])
    expected = correlation.ranks(np.array([5.0, 1.0, 1.0, 5.0]))
    np.testing.assert_allclose(weighted_ranks(values, weights)[0, :3], expected[[0, 1, 3]])


def test_within_a_step_what_the_step_itself_explains_is_gone():
    """Score falls and error rises with the step: pooled, the sign is wrong; within steps the score is perfect."""
    noise, step = np.random.default_rng(0).normal(size=(40, 8)), np.arange(8)
    score, error = noise - 5 * step, noise + 5 * step
    weights = np.ones((1, 40))
    assert pearson(score, error, weights)[0] < -0.8
    assert within_step(pearson)(score, error, weights)[0] == pytest.approx(1)


def test_per_rollout_compares_sequences_not_steps():
    score = np.arange(6.0)[:, None] + 10 * np.arange(4)
    error = np.arange(6.0)[:, None] - 10 * np.arange(4)
    assert per_rollout(spearman)(score, error, np.ones((1, 6)))[0] == pytest.approx(1)


def test_the_interval_holds_the_value_and_narrows_with_more_sequences():
    def width(count):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(count, 4))
        found = interval(pearson, x, x + rng.normal(size=(count, 4)), rng, 400)
        assert found.low < found.value < found.high
        return found.high - found.low

    assert width(400) < 0.5 * width(25)


def test_constant_scores_have_no_correlation():
    found = interval(
        pearson, np.ones((5, 3)), np.random.default_rng(0).normal(size=(5, 3)), np.random.default_rng(0), 50
    )
    assert np.isnan([found.value, found.low, found.high]).all()
