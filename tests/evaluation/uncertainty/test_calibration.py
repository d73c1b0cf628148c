import json

import numpy as np
import pytest

from whale.evaluation.uncertainty.calibration import calibration, fit_isotonic, reliability


def test_the_isotonic_fit_pools_violators_by_weight():
    """The textbook case: 1, 3, 2, 4 -> 1, 2.5, 2.5, 4."""
    fitted = fit_isotonic(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4]))
    np.testing.assert_allclose(fitted(np.array([0.0, 1, 2, 3, 4, 9])), [1, 1, 2.5, 2.5, 4, 4])


def test_equal_uncertainties_share_one_expected_error():
    fitted = fit_isotonic(np.array([1.0, 1, 2]), np.array([0.0, 4, 5]))
    np.testing.assert_allclose(fitted(np.array([1.0, 2.0])), [2, 5])


def test_no_rising_map_fits_better():
    rng = np.random.default_rng(0)
    x = np.sort(rng.normal(size=200))
    y = x + rng.normal(size=200)
    best = np.square(fit_isotonic(x, y)(x) - y).sum()
    for _ in range(20):
        rising = np.maximum.accumulate(fit_isotonic(x, y)(x) + rng.normal(0, 0.05, 200))
        assert np.square(rising - y).sum() >= best


def test_a_score_that_is_the_error_up_to_scale_is_calibrated_out_of_fold():
    error = np.random.default_rng(0).gamma(2.0, size=(200, 4))
    found = reliability(5 * error, error)
    assert found.gap < 0.02
    np.testing.assert_allclose(found.expected, found.found, rtol=0.05)


def test_a_score_without_information_expects_the_mean_error():
    rng = np.random.default_rng(0)
    found = reliability(rng.random((400, 4)), rng.gamma(2.0, size=(400, 4)))
    np.testing.assert_allclose(found.found, 2.0, atol=0.25)


def test_thresholds_keep_the_share_they_name_at_the_risk_they_name():
    rng = np.random.default_rng(0)
    error = rng.gamma(2.0, size=(50, 4))
    score = error + rng.normal(0, 0.2, error.shape)
    score[0, 0] = np.nan
    found = calibration(score, error)
    assert json.loads(json.dumps(found)) == found and found["num_pairs"] == 199
    for row in found["thresholds"]:
        kept = score <= row["uncertainty"] * (1 + 1e-5)
        assert kept.sum() == pytest.approx(row["coverage"] * 199, abs=1)
        assert error[kept].mean() == pytest.approx(row["risk"], rel=0.02)
