"""Does a score order what it should order: correlations with intervals, AUROC, risk against coverage.

Intervals resample episodes and need no loop: a resample that draws an episode three times is a weight of 3 on all steps
of all its windows. Moments and ranks under weights are matrix products and running sums, so 500 resamples cost little
more than one. Shapes: E sequences (windows), S steps, M pairs, R resamples. NaN pairs count nowhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from whale.evaluation.numbers.bootstrap import Interval

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # x [E, S], y [E, S], weights [R, E] -> [R]


@dataclass(frozen=True)
class Resampling:
    """Resampled episodes as weights of sequences, float64 [1 + R, E]; the first row counts each once.

    The same ones for every statistic: what two have in common cancels out of the interval of their difference.
    """

    weights_RE: np.ndarray

    @classmethod
    def of(cls, episode_E: np.ndarray, rng: np.random.Generator, resamples: int) -> Self:
        """`episode_E`: the episode that each sequence is cut from."""
        _, index = np.unique(episode_E, return_inverse=True)
        count = index.max() + 1
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        return cls(np.concatenate([np.ones((1, count)), drawn])[:, index].astype(np.float64))

    def values(self, statistic: Statistic, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The statistic of all sequences, then of each resample: [1 + R]."""
        x, y = (np.asarray(values, np.float64).reshape(len(values), -1) for values in (x, y))
        unpaired = ~(np.isfinite(x) & np.isfinite(y))
        return statistic(np.where(unpaired, np.nan, x), np.where(unpaired, np.nan, y), self.weights_RE)


def interval(
    statistic: Statistic, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, resamples: int,
    episode: np.ndarray | None = None,
) -> Interval:  # fmt: skip
    """The statistic of all sequences with its percentile interval; each is an episode of its own without `episode`."""
    found = Resampling.of(np.arange(len(x)) if episode is None else episode, rng, resamples).values(statistic, x, y)
    return Interval.around(float(found[0]), found[1:])


def pearson(x: np.ndarray, y: np.ndarray, weights_RE: np.ndarray) -> np.ndarray:
    """Eq. 8 over all (sequence, step) pairs of each resample. -> [R]; NaN when either side is constant."""
    pair = np.isfinite(x) & np.isfinite(y)
    if not pair.any() or np.ptp(x[pair]) == 0 or np.ptp(y[pair]) == 0:
        return np.full(len(weights_RE), np.nan)
    # A sequence counts as a whole, so its sums are all that a resample needs; standardised, so that none cancels.
    x, y = (np.where(pair, (each - each[pair].mean()) / each[pair].std(), 0.0) for each in (x, y))
    sums_6E = np.stack([each.sum(axis=1) for each in (pair.astype(np.float64), x, y, x * x, y * y, x * y)])
    count, sum_x, sum_y, sum_xx, sum_yy, sum_xy = sums_6E @ weights_RE.T
    with np.errstate(invalid="ignore", divide="ignore"):
        xx, yy, xy = sum_xx - sum_x**2 / count, sum_yy - sum_y**2 / count, sum_xy - sum_x * sum_y / count
        is_varied = np.minimum(xx, yy) > 1e-10 * count
        return np.where(is_varied, xy / np.sqrt(np.where(is_varied, xx * yy, 1.0)), np.nan)


def spearman(x: np.ndarray, y: np.ndarray, weights_RE: np.ndarray) -> np.ndarray:
    """Pearson of the ranks within each resample; equal values share their mean rank. -> [R]"""
    weights_RM = np.repeat(weights_RE, x.shape[1], axis=1) * np.isfinite(x + y).ravel()
    middle_R1 = (weights_RM.sum(axis=1, keepdims=True) + 1) / 2
    left, right = (weighted_ranks(values.ravel(), weights_RM) - middle_R1 for values in (x, y))
    xx, yy, xy = (np.einsum("rm,rm,rm->r", weights_RM, *each) for each in ((left, left), (right, right), (left, right)))
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt(xx * yy)
        return np.where(scale > 1e-12 * np.maximum(xx, yy), xy / scale, np.nan)


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


def auroc_above_step_median(x: np.ndarray, y: np.ndarray, weights_RE: np.ndarray) -> np.ndarray:
    """Probability that an error above its step's median has the higher score of two at one step: mean over steps, [R].

    Ties count half. 0.5 for the step's number, whatever the errors do over the steps.
    """
    found = []
    for score_E, error_E in zip(x.T, y.T, strict=True):
        pair = np.isfinite(score_E) & np.isfinite(error_E)
        if not pair.any():
            continue
        weights, is_up = weights_RE[:, pair], error_E[pair] > np.median(error_E[pair])
        up, down = weights[:, is_up].sum(axis=1), weights[:, ~is_up].sum(axis=1)
        rank_sum = (weighted_ranks(score_E[pair], weights) * weights)[:, is_up].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # Mann-Whitney: less the ranks among themselves
            found.append(np.where(up * down > 0, (rank_sum - up * (up + 1) / 2) / (up * down), np.nan))
    return _nanmean(np.stack(found)) if found else np.full(len(weights_RE), np.nan)


def weighted_ranks(values_M: np.ndarray, weights_RM: np.ndarray) -> np.ndarray:
    """Ranks from 1 of each value in the sample that repeats value m `weights[r, m]` times; ties share the mean rank."""
    _, group_M = np.unique(values_M, return_inverse=True)
    order = np.argsort(group_M, kind="stable")
    starts = np.flatnonzero(np.diff(group_M[order], prepend=-1))
    totals_RG = weights_RM[:, order]
    if len(starts) < len(order):
        totals_RG = np.add.reduceat(totals_RG, starts, axis=1)
    ranks_RG = np.cumsum(totals_RG, axis=1) - (totals_RG - 1) / 2
    return ranks_RG[:, group_M]


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


def risk_area(score: np.ndarray, error: np.ndarray) -> float:
    """Area under risk by coverage over that of a random choice, the mean error: 1 = random, less is better."""
    x, y = pairs(score, error)
    if len(x) == 0 or y.mean() == 0:
        return float("nan")
    return float(risk_coverage(x, y, np.arange(1, len(x) + 1) / len(x)).mean() / y.mean())


def pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both [M], without the pairs in which either value is NaN."""
    x, y = np.asarray(left, np.float64).ravel(), np.asarray(right, np.float64).ravel()
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of what is finite; NaN without any."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    return np.where(count > 0, np.where(finite, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def explained(true: np.ndarray, found: np.ndarray) -> float:
    """R^2 of single numbers: 1 - squared error over variance; NaN where they do not vary."""
    variance = np.square(true - true.mean()).sum()
    return float(1 - np.square(true - found).sum() / variance) if variance > 0 else float("nan")
