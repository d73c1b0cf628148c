import numpy as np
import pytest

from whale.evaluation.uncertainty.correlation import auroc, ranks, risk_coverage, worst_share


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
