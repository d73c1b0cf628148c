import json

import numpy as np
import pytest

from whale.evaluation.uncertainty.calibration import (
    NOMINAL,
    Calibrated,
    StepModel,
    calibration,
    coverage,
    cross_conformal,
    out_of_fold,
    reliability,
)

STEPS = np.arange(1.0, 5.0)


def drawn(count: int = 200, exponent: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that FALL over the steps and errors that rise, of rollouts of unlike difficulty; three an episode."""
    rng = np.random.default_rng(seed)
    difficulty = rng.gamma(16.0, 1 / 16, (count, 1)) * rng.gamma(50.0, 1 / 50, (count, 4))
    return difficulty**2 / STEPS, difficulty ** (2 * exponent) * STEPS, np.arange(count) // 3


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_law_that_errors_follow_is_found_step_by_step(exponent):
    score, error, _ = drawn(exponent=exponent)
    model = StepModel.fit(score, error)
    assert model.exponent == pytest.approx(exponent, abs=0.01)
    np.testing.assert_allclose(model(score), error, rtol=1e-6)


def test_a_score_that_falls_with_the_error_expects_its_steps_mean():
    score, error, _ = drawn()
    model = StepModel.fit(1 / score, error)
    assert model.exponent == 0
    np.testing.assert_allclose(model(score)[0], error.mean(axis=0))


def test_steps_without_any_disagreement_expect_their_mean_error():
    score, error, episode = drawn()
    score[:, 2:] = 0.0
    np.testing.assert_allclose(StepModel.fit(score, error)(score)[:, 3], error[:, 3].mean())
    assert np.isfinite(cross_conformal(score, error, episode)).all()


def test_the_mean_of_what_is_expected_is_the_mean_error_at_every_step():
    score, error, _ = drawn()
    error = error * np.random.default_rng(1).gamma(2.0, 0.5, error.shape)
    np.testing.assert_allclose(StepModel.fit(score, error)(score).mean(axis=0), error.mean(axis=0))


def test_no_episode_is_judged_by_a_fit_that_has_seen_it():
    seen: list[set] = []
    score, error, episode = drawn(30)
    score = score + 1000.0 * episode[:, None]  # names its episode

    def fit(x, y):
        known = set((x // 1000).astype(int).ravel())
        seen.append(known)
        return lambda held: np.where(np.isin((held // 1000).astype(int), list(known)), np.nan, 1.0)

    assert np.isfinite(out_of_fold(score, error, episode, fit)).all() and len(seen) == 5
    assert np.isnan(out_of_fold(score, error, np.zeros(30), fit)).all()  # of one episode nothing can be said


def test_reliability_of_a_right_and_of_a_wrong_expectation():
    _, error, _ = drawn()
    assert reliability(error, error).error == pytest.approx(0, abs=1e-12)
    assert reliability(2 * error, error).error == pytest.approx(1)
    assert np.isnan(reliability(error[:1, :2], error[:1, :2]).error)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_nine_times_in_ten_on_other_episodes_whatever_the_score_is_worth(seed):
    score, error, episode = drawn(120, seed=seed)
    error = error * np.random.default_rng(seed).gamma(20.0, 1 / 20, error.shape)
    useless = np.random.default_rng(seed).random(score.shape)
    good, bad = (coverage(cross_conformal(each, error, episode), error) for each in (score, useless))
    for found in (good, bad):
        assert abs(found.share - NOMINAL) < 0.03
    assert good.width < bad.width


def test_bounds_from_elsewhere_do_not_hold_where_errors_are_larger():
    score, error, episode = drawn()
    elsewhere = Calibrated.fit(score, error, episode)
    assert coverage(elsewhere.bound(score), 3 * error).share < 0.1


def test_with_fewer_than_nine_episodes_no_bound_is_promised():
    score, error, _ = drawn(8)
    assert np.isinf(Calibrated.fit(score, error, np.arange(8)).bound(score)).all()
    assert coverage(np.full((8, 4), np.inf), error).share == 1.0


def test_what_is_read_back_from_json_expects_and_bounds_the_same():
    score, error, episode = drawn()
    fitted = Calibrated.fit(score, error, episode)
    again = Calibrated.from_json(json.loads(json.dumps(fitted.as_json())))
    longer = np.concatenate([score, score[:, -1:]], axis=1)  # a step further than was calibrated
    np.testing.assert_allclose(again.bound(longer), fitted.bound(longer), rtol=1e-5)
    few = Calibrated.from_json(json.loads(json.dumps(Calibrated.fit(score[:4], error[:4], episode[:4]).as_json())))
    assert np.isinf(few.bound(score)).all()


def test_thresholds_keep_the_share_they_name_at_the_risk_they_name():
    score, error, episode = drawn()
    score[0, 0] = np.nan
    found = calibration(score, error, episode)
    assert json.loads(json.dumps(found)) == found
    assert (found["num_pairs"], found["num_episodes"]) == (799, 67)
    expected = out_of_fold(score, error, episode, StepModel.fit)
    for row in found["thresholds"]:
        kept = expected <= row["expected_error"] * (1 + 1e-5)
        assert kept.sum() == pytest.approx(row["coverage"] * 799, abs=1)
        assert error[kept].mean() == pytest.approx(row["risk"], rel=0.02)
    assert calibration(np.full((2, 2), np.nan), np.ones((2, 2)), np.arange(2)) == {"num_pairs": 0}
