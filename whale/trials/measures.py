"""Does imagination order policies as the truth does: correlations, MMRV, value gap, regret, with intervals.

Starts are matched: episode e begins alike for every policy. So one resample draws starts, for all policies together,
and each number's interval says how it would move had other starts been drawn.
Shapes: P policies, E starts, R resamples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import numpy as np

from whale.evaluation.numbers.bootstrap import Interval

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]  # imagined [R, P], true [R, P] -> [R]
NORMAL_95 = 1.959963984540054


def across_policies(
    imagined_PE: np.ndarray, true_PE: np.ndarray, measure: Measure, rng: np.random.Generator, resamples: int
) -> Interval:
    """`measure` of the policies' mean values, with its 95 % interval over starts."""
    count = imagined_PE.shape[1]
    draws_RE = rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    value = measure(imagined_PE.mean(axis=1)[None], true_PE.mean(axis=1)[None])
    return Interval.around(float(value[0]), measure(draws_RE @ imagined_PE.T, draws_RE @ true_PE.T))


def pearson(imagined_RP: np.ndarray, true_RP: np.ndarray) -> np.ndarray:
    """NaN where either side is constant."""
    left, right = (values - values.mean(axis=1, keepdims=True) for values in (imagined_RP, true_RP))
    scale = np.sqrt(np.square(left).sum(axis=1) * np.square(right).sum(axis=1))
    return np.divide((left * right).sum(axis=1), scale, out=np.full(len(left), np.nan), where=scale > 1e-15)


def spearman(imagined_RP: np.ndarray, true_RP: np.ndarray) -> np.ndarray:
    """Pearson of the ranks; equal values share their mean rank."""
    return pearson(_ranks(imagined_RP), _ranks(true_RP))


def mmrv(imagined_RP: np.ndarray, true_RP: np.ndarray) -> np.ndarray:
    """Mean maximum rank violation (SIMPLER, Li et al. 2024): how much true value the worst wrong pair costs.

    Mean over policies i of max over j of |true_i - true_j| where imagination orders i and j otherwise. 0 is best.
    """
    true_differs = true_RP[:, :, None] - true_RP[:, None]
    imagined_differs = imagined_RP[:, :, None] - imagined_RP[:, None]
    violated = (imagined_differs < 0) != (true_differs < 0)
    return (np.abs(true_differs) * violated).max(axis=2).mean(axis=1)


def value_gap(imagined_RP: np.ndarray, true_RP: np.ndarray) -> np.ndarray:
    """Mean |imagined - true| over policies, in the value's own unit."""
    return np.abs(imagined_RP - true_RP).mean(axis=1)


def regret_at(k: int) -> Measure:
    """True value lost by choosing the best of the k policies that imagination likes most."""

    def regret(imagined_RP: np.ndarray, true_RP: np.ndarray) -> np.ndarray:
        chosen = np.argsort(-imagined_RP, axis=1, kind="stable")[:, :k]
        return true_RP.max(axis=1) - np.take_along_axis(true_RP, chosen, axis=1).max(axis=1)

    return regret


def random_regret(true_P: np.ndarray, k: int) -> float:
    """Expected `regret_at(k)` of k policies chosen blindly, without replacement: the baseline."""
    order = np.sort(true_P)[::-1]
    count = len(order)
    chances = [comb(count - place - 1, k - 1) / comb(count, k) for place in range(count)]  # it is the best one chosen
    return float(order[0] - np.dot(chances, order))


def explained(guessed_PEH: np.ndarray, true_PEH: np.ndarray, rng: np.random.Generator, resamples: int) -> Interval:
    """R^2 of step rewards, with its interval over starts: 0 for whoever always says the mean."""
    count = true_PEH.shape[1]
    missed_E = np.square(guessed_PEH - true_PEH).sum(axis=(0, 2))
    first_E, second_E = true_PEH.sum(axis=(0, 2)), np.square(true_PEH).sum(axis=(0, 2))
    numbers = true_PEH.shape[0] * true_PEH.shape[2]

    def share(weights_RE: np.ndarray) -> np.ndarray:
        total = weights_RE @ second_E - (weights_RE @ first_E) ** 2 / (weights_RE.sum(axis=1) * numbers)
        missed = weights_RE @ missed_E
        return 1 - np.divide(missed, total, out=np.full(len(total), np.nan), where=total > 1e-12)

    draws_RE = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
    return Interval.around(float(share(np.ones((1, count)))[0]), share(draws_RE))


@dataclass(frozen=True)
class Powered:
    """A policy's value from few true and many imagined episodes; `weight`: how far imagination was trusted (0..1)."""

    value: Interval
    weight: float


def prediction_powered(imagined_E: np.ndarray, true_n: np.ndarray, imagined_n: np.ndarray) -> Powered:
    """PPI++ (Angelopoulos et al. 2023): mean of the truth, with imagination as a control of its variance.

    imagined_E: values of starts whose truth is unknown; true_n, imagined_n: both values of the others. Unbiased
    whatever imagination says; the weight is the one of least variance, 0 where imagination is useless. No interval
    where the truths are fewer than two or all equal.
    """
    few, many = len(true_n), len(imagined_E)
    if few < 2 or many < 1 or np.ptp(true_n) == 0:  # equal truths say nothing of how far others may lie
        return Powered(Interval(float(np.mean(true_n)) if few else float("nan"), float("nan"), float("nan")), 0.0)
    spread = float(np.var(np.concatenate([imagined_E, imagined_n]), ddof=1))
    together = float(np.cov(true_n, imagined_n, ddof=1)[0, 1])
    weight = float(np.clip(together / ((1 + few / many) * spread), 0.0, 1.0)) if spread > 1e-12 else 0.0
    value = float(weight * np.mean(imagined_E) + np.mean(true_n - weight * imagined_n))
    error = weight**2 * spread / many + float(np.var(true_n - weight * imagined_n, ddof=1)) / few
    wide = NORMAL_95 * float(np.sqrt(error))
    return Powered(Interval(value, value - wide, value + wide), weight)


def _ranks(values_RP: np.ndarray) -> np.ndarray:
    """Ranks along the last axis; equal values share their mean rank."""
    below = (values_RP[:, None, :] < values_RP[:, :, None]).sum(axis=2)
    equal = (values_RP[:, None, :] == values_RP[:, :, None]).sum(axis=2)
    return below + (equal - 1) / 2
