"""Does a score order what it should order: correlations with intervals, AUROC, risk against coverage.

Intervals are exact and need no loop: a resample that draws sequence e three times is a weight of 3 on all its steps.
Moments and ranks under weights are matrix products and running sums, so 500 resamples cost little more than one.
Shapes: E sequences, S steps, M pairs, R resamples. NaN pairs count nowhere.
"""

from collections.abc import Callable

import numpy as np

from whale.evaluation.measuring.bootstrap import Interval

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # x [E, S], y [E, S], weights [R, E] -> [R]


def interval(statistic: Statistic, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int) -> Interval:
    """The statistic of all sequences, with the percentile interval over resampled ones."""
    x, y = (np.asarray(values, np.float64).reshape(len(values), -1) for values in (x, y))
    unpaired = ~(np.isfinite(x) & np.isfinite(y))
    x, y = np.where(unpaired, np.nan, x), np.where(unpaired, np.nan, y)
    num_sequences = len(x)
    value = float(statistic(x, y, np.ones((1, num_sequences)))[0])
    weights_RE = rng.multinomial(num_sequences, np.full(num_sequences, 1 / num_sequences), size=resamples)
    return Interval.around(value, statistic(x, y, weights_RE.astype(np.float64)))


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


def auroc(score: np.ndarray, is_positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counted half; NaN when one class is empty."""
    x, positive = pairs(score, np.asarray(is_positive, np.float64))
    is_up = positive > 0
    num_up, num_down = int(is_up.sum()), int((~is_up).sum())
    if num_up == 0 or num_down == 0:
        return float("nan")
    # Mann-Whitney: the rank sum of the positives, less the ranks they hold among themselves
    rank_sum = weighted_ranks(x, np.ones((1, len(x))))[0, is_up].sum()
    return float((rank_sum - num_up * (num_up + 1) / 2) / (num_up * num_down))


def worst_share(error: np.ndarray, share: float) -> np.ndarray:
    """True for the errors above the (1 - share) quantile: `share=0.25` marks the worst quartile. NaN is False."""
    return error > np.nanquantile(error, 1 - share)


def risk_coverage(score: np.ndarray, error: np.ndarray, coverages: np.ndarray) -> np.ndarray:
    """Mean error of the `coverage` share of items with the LOWEST score, for each coverage in (0, 1].

    A useful uncertainty rises to the right; a useless one stays flat at the mean error.
    """
    x, y = pairs(score, error)
    if len(x) == 0:
        return np.full(len(coverages), np.nan)
    running = np.cumsum(y[np.argsort(x, kind="stable")]) / np.arange(1, len(y) + 1)
    kept = np.clip(np.ceil(np.asarray(coverages) * len(y)).astype(int), 1, len(y))
    return running[kept - 1]


def pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both [M], without the pairs in which either value is NaN."""
    x, y = np.asarray(left, np.float64).ravel(), np.asarray(right, np.float64).ravel()
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]


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


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of what is finite; NaN without any."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    return np.where(count > 0, np.where(finite, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
