import numpy as np
import pytest
from scipy import stats

from whale.evaluation.uncertainty.correlation import (
    Resampling,
    auroc_above_step_median,
    interval,
    pearson,
    per_rollout,
    risk_area,
    risk_coverage,
    spearman,
    weighted_ranks,
    within_step,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 8)).round(1)  # rounded: ties
Y = (0.5 * X + RNG.normal(size=(12, 8))).round(1)
X[3, 2], Y[5, 5] = np.nan, np.nan


def once(statistic, x, y) -> float:
    """Of all sequences, each counted once."""
    return statistic(np.reshape(x, (len(x), -1)), np.reshape(y, (len(y), -1)), np.ones((1, len(x))))[0]


def test_pearson_of_a_line_is_its_sign_and_of_a_constant_is_nan():
    x = np.arange(5.0)
    assert once(pearson, x, 3 * x + 1) == pytest.approx(1)
    assert once(pearson, x, -x) == pytest.approx(-1)
    assert np.isnan(once(pearson, x, np.ones(5)))


def test_spearman_sees_order_only():
    x = np.random.default_rng(0).normal(size=40)
    assert once(spearman, x, np.exp(3 * x)) == pytest.approx(1)


@pytest.mark.parametrize(("ours", "theirs"), [(pearson, stats.pearsonr), (spearman, stats.spearmanr)])
def test_weights_give_the_statistic_of_the_repeated_sample(ours, theirs):
    """Each resample, drawn out in full and handed to scipy without its NaN pairs."""
    weights = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), size=20)
    for row, value in zip(weights, ours(X, Y, weights.astype(float)), strict=True):
        chosen = np.repeat(np.arange(12), row)
        x, y = X[chosen].ravel(), Y[chosen].ravel()
        is_pair = np.isfinite(x + y)
        assert value == pytest.approx(theirs(x[is_pair], y[is_pair]).statistic, abs=1e-12)


def test_weighted_ranks_are_the_ranks_of_the_repeated_sample():
    values, weights = np.array([5.0, 1.0, 5.0, 9.0]), np.array([[1.0, 2.0, 1.0, 0.0]])
    expected = stats.rankdata([5.0, 1.0, 1.0, 5.0])
    np.testing.assert_allclose(weighted_ranks(values, weights)[0, :3], expected[[0, 1, 3]])


def test_within_a_step_what_the_step_itself_explains_is_gone():
    """Score falls and error rises with the step: pooled, the sign is wrong; within steps the score is perfect."""
    noise, step = np.random.default_rng(0).normal(size=(40, 8)), np.arange(8)
    score, error = noise - 5 * step, noise + 5 * step
    assert once(pearson, score, error) < -0.8
    assert once(within_step(pearson), score, error) == pytest.approx(1)


def test_per_rollout_compares_sequences_not_steps():
    score = np.arange(6.0)[:, None] + 10 * np.arange(4)
    error = np.arange(6.0)[:, None] - 10 * np.arange(4)
    assert once(per_rollout(spearman), score, error) == pytest.approx(1)


def test_the_interval_holds_the_value_and_narrows_with_more_sequences():
    def width(count):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(count, 4))
        found = interval(pearson, x, x + rng.normal(size=(count, 4)), rng, 400)
        assert found.low < found.value < found.high
        return found.high - found.low

    assert width(400) < 0.5 * width(25)


def test_constant_scores_have_no_correlation():
    error = np.random.default_rng(0).normal(size=(5, 3))
    found = interval(pearson, np.ones((5, 3)), error, np.random.default_rng(0), 50)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_windows_of_one_episode_are_drawn_together():
    episode = np.array([3, 3, 7, 9, 9, 9])
    weights = Resampling.of(episode, np.random.default_rng(0), 50).weights_RE
    assert (weights[0] == 1).all() and (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3:] == weights[:, 3:4]).all() and (weights[1:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_windows_that_repeat_their_episode_narrow_no_interval():
    x, y = np.nan_to_num(X), np.nan_to_num(Y)

    def width(times):
        rng, episode = np.random.default_rng(0), np.repeat(np.arange(12), times)
        found = interval(pearson, x.repeat(times, axis=0), y.repeat(times, axis=0), rng, 300, episode)
        return found.value, found.low, found.high

    assert width(1) == pytest.approx(width(4))


def test_auroc_is_the_share_of_ordered_pairs_with_ties_counted_half():
    score, error = np.array([[1.0], [2], [2], [3]]), np.array([[0.0], [9], [1], [8]])
    assert once(auroc_above_step_median, score, error) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert np.isnan(once(auroc_above_step_median, score, np.ones((4, 1))))


def test_auroc_asks_within_a_step_so_the_steps_number_is_worth_nothing():
    error = np.random.default_rng(0).random((40, 8)) + 10 * np.arange(8)
    step = np.broadcast_to(np.arange(8.0), error.shape)
    assert once(auroc_above_step_median, step, error) == 0.5
    assert once(auroc_above_step_median, error - 20 * step, error) == 1


def test_auroc_under_weights_is_that_of_the_repeated_sample():
    score, error = np.array([1.0, 2, 2, 3, 0]), np.array([0.0, 9, 1, 8, 7])
    weights = np.array([2.0, 1, 1, 4, 3])
    pairs = [(up, down) for up in (1, 3) for down in (0, 2, 4)]  # above the median, 7, and not
    counts = [weights[up] * weights[down] for up, down in pairs]
    ordered = [(score[up] > score[down]) + 0.5 * (score[up] == score[down]) for up, down in pairs]
    found = auroc_above_step_median(score[:, None], error[:, None], weights[None])[0]
    assert found == pytest.approx(np.dot(ordered, counts) / sum(counts))


def test_a_difference_of_two_statistics_is_of_the_same_resamples():
    """Twice the same score: each alone has a wide interval, the difference none."""
    resampling = Resampling.of(np.arange(12), np.random.default_rng(0), 100)
    one, other = (resampling.values(pearson, scale * X, Y) for scale in (1, 2))
    assert np.ptp(one) > 0.2
    np.testing.assert_allclose(one - other, 0, atol=1e-12)


def test_the_area_under_risk_is_one_for_chance_and_half_of_the_mean_for_a_perfect_score_of_uniform_errors():
    error = np.arange(1.0, 2001)
    assert risk_area(error, error) == pytest.approx(0.5, abs=1e-3)
    assert risk_area(np.random.default_rng(0).random(2000), error) == pytest.approx(1, abs=0.05)


def test_risk_coverage_of_a_perfect_score_is_the_running_mean_of_sorted_errors():
    error = np.array([4.0, 1, 3, 2])
    np.testing.assert_allclose(risk_coverage(error, error, np.array([0.25, 0.5, 1.0])), [1, 1.5, 2.5])
