import numpy as np
import pytest
from scipy import stats

from whale.data.loading.receipt import chi_square


def test_statistic_and_p_are_those_of_scipy():
    counts, shares = [52, 30, 18], [0.5, 0.25, 0.25]
    expected = stats.chisquare(counts, np.array(shares) * 100)
    found = chi_square(counts, shares)
    assert (found["statistic"], found["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert found["degrees"] == 2 and not found["alarm"]


def test_exact_counts_give_0_and_a_wrong_mixture_raises_the_alarm():
    assert chi_square([50, 25, 25], [0.5, 0.25, 0.25])["p"] == 1.0
    assert chi_square([500, 200, 300], [0.5, 0.25, 0.25])["alarm"]
    assert chi_square([7], [1.0])["p"] == chi_square([0, 0], [0.5, 0.5])["p"] == 1.0
