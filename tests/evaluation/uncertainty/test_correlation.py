import numpy as np
import pytest

from whale.evaluation.uncertainty.correlation import auroc, pearson, ranks, risk_coverage, spearman, worst_share


def test_pearson_of_a_line_is_its_sign_and_of_a_constant_is_nan():
    x = np.arange(5.0)
    assert pearson(x, 3 * x + 1) == pytest.approx(1)
    assert pearson(x, -x) == pytest.approx(-1)
    assert np.isnan(pearson(x, np.ones(5)))


def test_pearson_equals_numpy_and_leaves_nan_pairs_out():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50))
    expected = np.corrcoef(x, y)[0, 1]
    assert pearson(np.append(x, np.nan), np.append(y, 9.0)) == pytest.approx(expected)


def test_spearman_sees_order_only():
    x = np.random.default_rng(0).normal(size=40)
    assert spearman(x, np.exp(3 * x)) == pytest.approx(1)


def test_spearman_of_distinct_values_is_one_minus_six_d_squared():
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])
    assert spearman(x, y) == pytest.approx(1 - 6 * 4 / (5 * 24))


def test_equal_values_share_their_mean_rank():
    np.testing.assert_allclose(ranks(np.array([5.0, 1, 5, 9])), [2.5, 1, 2.5, 4])


def test_auroc_is_the_share_of_ordered_pairs_with_ties_counted_half():
    score, positive = np.array([1.0, 2, 2, 3]), np.array([False, True, False, True])
    assert auroc(score, positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert np.isnan(auroc(score, np.zeros(4, bool)))


def test_worst_share_marks_the_top_quartile():
    assert worst_share(np.arange(100.0), 0.25).sum() == 25


def test_risk_coverage_of_a_perfect_score_is_the_running_mean_of_sorted_errors():
    error = np.array([4.0, 1, 3, 2])
    np.testing.assert_allclose(risk_coverage(error, error, np.array([0.25, 0.5, 1.0])), [1, 1.5, 2.5])
