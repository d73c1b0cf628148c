"""Comparisons of imagined and true values: closed forms, and intervals that cover what they claim."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from whale.evaluation.uncertainty import correlation
from whale.trials.measures import (
    across_policies,
    explained,
    mmrv,
    pearson,
    prediction_powered,
    random_regret,
    regret_at,
    spearman,
    value_gap,
)

VALUES = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=9)


def rows(pairs):
    return (np.array([[pair[side] for pair in pairs]], float) for side in (0, 1))


@given(VALUES)
def test_correlations_are_scipys(pairs):
    left, right = rows(pairs)
    for ours, scipys in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        found = ours(left, right)[0]
        if np.ptp(left) == 0 or np.ptp(right) == 0:
            assert np.isnan(found)
        else:
            assert found == pytest.approx(scipys(left[0], right[0]).statistic, abs=1e-9)


def test_mmrv_is_what_simpler_defines():
    true = np.array([[0.1, 0.5, 0.9, 0.4]])
    assert mmrv(true, true)[0] == mmrv(2 * true + 1, true)[0] == 0
    swapped = np.array([[0.1, 0.9, 0.5, 0.4]])  # the second and third are exchanged: 0.4 of true value each
    assert mmrv(swapped, true)[0] == pytest.approx((0 + 0.4 + 0.4 + 0) / 4)
    assert mmrv(-true, true)[0] == pytest.approx(np.mean([0.8, 0.4, 0.8, 0.5]))


@given(VALUES)
def test_mmrv_by_its_definition_pair_by_pair(pairs):
    imagined, true = (each[0] for each in rows(pairs))
    count = len(true)
    worst = [max(abs(true[i] - true[j]) * ((imagined[i] < imagined[j]) != (true[i] < true[j])) for j in range(count))
             for i in range(count)]  # fmt: skip
    assert mmrv(imagined[None], true[None])[0] == pytest.approx(np.mean(worst))


def test_gap_and_regret_in_the_values_own_unit():
    imagined, true = np.array([[0.2, 0.8, 0.5]]), np.array([[0.9, 0.3, 0.7]])
    assert value_gap(imagined, true)[0] == pytest.approx((0.7 + 0.5 + 0.2) / 3)
    assert [regret_at(k)(imagined, true)[0] for k in (1, 2, 3)] == pytest.approx([0.6, 0.2, 0.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.integers(1, 7))
def test_a_blind_choice_loses_what_all_its_choices_lose_on_average(values, k):
    true = np.array(values)
    k = min(k, len(true))
    expected = np.mean([true.max() - max(chosen) for chosen in combinations(true, k)])
    assert random_regret(true, k) == pytest.approx(expected, abs=1e-12)


def test_the_interval_over_starts_is_narrow_where_all_starts_agree_and_wide_where_not():
    rng = np.random.default_rng(0)
    true = np.linspace(0, 1, 8)[:, None] + rng.normal(0, 0.02, (8, 40))
    clear = across_policies(true + rng.normal(0, 0.02, true.shape), true, spearman, np.random.default_rng(1), 300)
    noise = across_policies(rng.normal(0, 1, true.shape), true, spearman, np.random.default_rng(1), 300)
    assert clear.low > 0.9 and noise.high - noise.low > 0.5 and noise.low < 0 < noise.high
    again = across_policies(true * 2, true, value_gap, np.random.default_rng(1), 300)
    assert again.value == pytest.approx(np.abs(true.mean(axis=1)).mean())


def test_explained_is_r_squared_and_its_interval_holds_zero_for_noise():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1, (3, 20, 4))
    near = true + rng.normal(0, 0.5, true.shape)
    found = explained(near, true, np.random.default_rng(1), 200)
    assert (
        found.value == pytest.approx(correlation.explained(true.ravel(), near.ravel()))
        and 0 < found.low < found.high < 1
    )
    assert explained(np.full_like(true, true.mean()), true, np.random.default_rng(1), 200).value == pytest.approx(0)
    assert explained(rng.normal(0, 1, true.shape), true, np.random.default_rng(1), 200).high < 0


@pytest.mark.parametrize(("rho", "bias"), [(0.95, 0.0), (0.95, 3.0), (0.0, 1.0), (-0.9, 0.0)])
def test_prediction_powered_intervals_cover_the_truth_and_are_never_fooled(rho, bias):
    """Few truths, many imagined values, whatever these are: 95 % of intervals hold the true mean."""
    rng = np.random.default_rng(4)
    few, many, hits, widths, plain = 30, 300, 0, [], []
    for _ in range(400):
        true = rng.normal(1.0, 1.0, few + many)
        imagined = bias + rho * true + np.sqrt(1 - rho**2) * rng.normal(0, 1, few + many)
        found = prediction_powered(imagined[few:], true[:few], imagined[:few])
        hits += found.value.low <= 1.0 <= found.value.high
        widths.append(found.value.high - found.value.low)
        plain.append(2 * 1.96 * true[:few].std(ddof=1) / np.sqrt(few))
    assert 0.90 <= hits / 400 <= 0.985
    gain = np.mean(widths) / np.mean(plain)
    assert gain < 0.55 if rho == 0.95 else 0.9 < gain < 1.03


def test_without_two_truths_or_any_imagined_value_there_is_no_interval():
    assert np.isnan(prediction_powered(np.ones(5), np.ones(1), np.ones(1)).value.low)
    assert np.isnan(prediction_powered(np.ones(5), np.zeros(4), np.arange(4.0)).value.high)
    alone = prediction_powered(np.ones(0), np.array([1.0, 2.0]), np.ones(2))
    assert alone.value.value == 1.5 and alone.weight == 0
