"""Correlations with intervals, exactly and without a loop: each resample of sequences is a row of whole weights.

A resample that draws sequence e three times is a weight of 3 on all its steps. Moments and ranks under weights are
matrix products and running sums, so 500 resamples cost little more than one.
Shapes: E sequences, S steps, R resamples. NaN pairs count nowhere.
"""

from collections.abc import Callable

import numpy as np

from whale.evaluation.measuring.bootstrap import Interval

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # x [E, S], y [E, S], weights [R, E] -> [R]


def interval(
    statistic: Statistic, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int, level: float = 0.95
) -> Interval:
    """The statistic of all sequences, with the percentile interval over resampled ones."""
    x, y = _pairs(x, y)
    num_sequences = len(x)
    value = float(statistic(x, y, np.ones((1, num_sequences)))[0])
    weights_RE = rng.multinomial(num_sequences, np.full(num_sequences, 1 / num_sequences), size=resamples)
    replicates = statistic(x, y, weights_RE.astype(np.float64))
    replicates = replicates[np.isfinite(replicates)]
    if len(replicates) == 0:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def pearson(x: np.ndarray, y: np.ndarray, weights_RE: np.ndarray) -> np.ndarray:
    """Eq. 8 over all (sequence, step) pairs of each resample. -> [R]; NaN when either side is constant."""
    weights_RM = np.repeat(weights_RE, x.shape[1], axis=1)
    return _pearson(x.reshape(1, -1), y.reshape(1, -1), weights_RM)


def spearman(x: np.ndarray, y: np.ndarray, weights_RE: np.ndarray) -> np.ndarray:
    """Pearson of the ranks within each resample; equal values share their mean rank. -> [R]"""
    weights_RM = np.repeat(weights_RE, x.shape[1], axis=1) * np.isfinite(x + y).ravel()
    left, right = (weighted_ranks(values.ravel(), weights_RM) for values in (x, y))
    return _pearson(left, right, weights_RM)


def within_step(statistic: Statistic) -> Statistic:
    """The mean over steps of a statistic taken across sequences at one step: what the step itself explains is gone."""

    def average(x: np.ndarray, y: np.ndarray, weights_RE: np.ndarray) -> np.ndarray:
        columns = [statistic(x[:, s : s + 1], y[:, s : s + 1], weights_RE) for s in range(x.shape[1])]
        return _nanmean(np.stack(columns))

    return average


def per_rollout(statistic: Statistic) -> Statistic:
    """A statistic of each sequence's mean over its steps: which rollout is worse, not which step."""

    def of_means(x: np.ndarray, y: np.ndarray, weights_RE: np.ndarray) -> np.ndarray:
        return statistic(_nanmean(x.T)[:, None], _nanmean(y.T)[:, None], weights_RE)

    return of_means


def weighted_ranks(values_M: np.ndarray, weights_RM: np.ndarray) -> np.ndarray:
    """Ranks from 1 of each value in the sample that repeats value m `weights[r, m]` times; ties share the mean rank."""
    _, group_M = np.unique(values_M, return_inverse=True)
    order = np.argsort(group_M, kind="stable")
    starts = np.flatnonzero(np.diff(group_M[order], prepend=-1))
    totals_RG = np.add.reduceat(weights_RM[:, order], starts, axis=1)
    ranks_RG = np.cumsum(totals_RG, axis=1) - (totals_RG - 1) / 2
    return ranks_RG[:, group_M]


def _pearson(x_RM: np.ndarray, y_RM: np.ndarray, weights_RM: np.ndarray) -> np.ndarray:
    is_pair = np.isfinite(x_RM) & np.isfinite(y_RM)
    weights_RM = weights_RM * is_pair
    x_RM, y_RM = np.where(is_pair, x_RM, 0.0), np.where(is_pair, y_RM, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total_R1 = weights_RM.sum(axis=1, keepdims=True)
        x_RM = x_RM - (weights_RM * x_RM).sum(axis=1, keepdims=True) / total_R1
        y_RM = y_RM - (weights_RM * y_RM).sum(axis=1, keepdims=True) / total_R1
        xx, yy, xy = ((weights_RM * a * b).sum(axis=1) for a, b in ((x_RM, x_RM), (y_RM, y_RM), (x_RM, y_RM)))
        scale = np.sqrt(xx * yy)
        return np.where(scale > 1e-12 * np.maximum(xx, yy), xy / scale, np.nan)


def _pairs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two dimensions each, NaN on both sides where either is."""
    x, y = (np.asarray(values, np.float64).reshape(len(values), -1) for values in (x, y))
    is_pair = np.isfinite(x) & np.isfinite(y)
    return np.where(is_pair, x, np.nan), np.where(is_pair, y, np.nan)


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of what is finite; NaN without any."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    return np.where(count > 0, np.where(finite, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
