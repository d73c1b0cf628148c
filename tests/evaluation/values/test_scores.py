"""Closed forms of the value metrics."""

from itertools import combinations

import numpy as np
import pytest

from whale.evaluation.uncertainty.correlation import explained
from whale.evaluation.values import scores

RNG = np.random.default_rng
TRUE = np.array([3.0, 9.0, 1.0, 7.0, 5.0, 2.0, 8.0])


def score(true, found, k=2) -> dict[str, float]:
    return {name: values[0] for name, values in scores.replicates(true, found, k, RNG(0), 100).items()}


def test_the_gap_is_the_mean_absolute_difference_and_resamples_lie_around_it():
    found = scores.replicates(TRUE, TRUE + np.array([1, -1, 2, -2, 0, 0, 0]), 2, RNG(0), 2000)["value_gap"]
    assert found[0] == pytest.approx(6 / 7) and found[1:].mean() == pytest.approx(6 / 7, abs=0.03)
    assert len(found) == 2001 and found[1:].min() >= 0 and found[1:].max() <= 2


def test_a_monotone_prediction_ranks_perfectly_and_a_straight_one_correlates_perfectly():
    bent = score(TRUE, np.exp(TRUE))
    assert bent["spearman"] == pytest.approx(1.0) and bent["pearson"] < 0.99
    straight = score(TRUE, 4 - 2 * TRUE)
    assert straight["pearson"] == pytest.approx(-1.0) == straight["spearman"]


def test_regret_is_what_the_best_of_the_predicted_best_falls_short_of():
    assert scores.regret(TRUE, TRUE, 1) == 0.0
    assert scores.regret(TRUE, -TRUE, 2) == 9.0 - 2.0
    assert scores.regret(TRUE, np.zeros(7), 2) == 0.0  # ties: the lowest indices, 3 and 9
    assert scores.regret(TRUE, np.zeros(7), 1) == 9.0 - 3.0
    assert not scores.replicates(TRUE, TRUE, 2, RNG(0), 200)["regret_at_2"].any()


@pytest.mark.parametrize("k", [1, 2, 3, 7, 20])
def test_a_random_choice_is_the_mean_over_every_choice(k):
    size = min(k, len(TRUE))
    every = [TRUE.max() - max(chosen) for chosen in combinations(TRUE, size)]
    assert scores.guesses(TRUE, k)[f"regret_at_{size}"] == pytest.approx(np.mean(every))


def test_no_constant_has_a_smaller_gap_than_the_guessed_one():
    gap = scores.guesses(TRUE, 5)["value_gap"]
    assert gap <= min(np.abs(TRUE - constant).mean() for constant in np.linspace(0, 10, 101)) + 1e-12


def test_within_policies_the_differences_between_them_count_nothing():
    true, policy = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0]), ["a"] * 3 + ["b"] * 3
    found = np.array([3.0, 2.0, 1.0, 13.0, 12.0, 11.0])
    assert score(true, found)["spearman"] > 0.5
    assert scores.within_policies(true, found, policy) == pytest.approx(-1.0)
    assert scores.within_policies(np.array([1.0, 1.0, 1.0]), np.arange(3.0), ["a"] * 3) != 1.0  # NaN: nothing varies


def test_the_mean_explains_nothing_and_the_truth_everything():
    assert explained(TRUE, np.full(7, TRUE.mean())) == pytest.approx(0.0)
    assert explained(TRUE, TRUE) == 1.0 and explained(TRUE, TRUE + 5) < 0
    assert np.isnan(explained(np.ones(4), np.ones(4)))
