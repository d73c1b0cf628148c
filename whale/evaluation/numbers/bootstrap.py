"""Intervals by resampling whole episodes: frames of one episode are not independent, episodes are.

Every function takes its random generator as an argument, so an interval is a function of data and seed.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

TAILS = ((1 - 0.95) / 2, (1 + 0.95) / 2)  # of a 95 % interval


@dataclass(frozen=True)
class Interval:
    """A point estimate with the percentile interval around it."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, replicates: np.ndarray) -> Self:
        """95 % of the resampled values lie inside; those that are not finite are left out, NaN without any."""
        finite = replicates[np.isfinite(replicates)]
        low, high = np.quantile(finite, TAILS) if len(finite) else (np.nan, np.nan)
        return cls(value, float(low), float(high))

    def as_metrics(self, name: str) -> dict[str, float]:
        """Flat dotted keys: `name`, `name.low`, `name.high`."""
        return {name: self.value, f"{name}.low": self.low, f"{name}.high": self.high}


def mean_interval(values: np.ndarray, episode: np.ndarray, rng: np.random.Generator, resamples: int = 1000) -> Interval:
    """Mean of `values` (any shape [M, ...], NaN left out) with an interval over episodes; `episode` is int [M].

    Each resample draws as many episodes as there are, with replacement, and takes the ratio of sums: an episode
    with more values weighs more, exactly as in the plain mean.
    """
    sums, counts = _per_episode(values, episode)
    if counts.sum() == 0:
        return Interval(np.nan, np.nan, np.nan)
    draws_RE = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    totals = draws_RE @ counts
    means = (draws_RE @ sums)[totals > 0] / totals[totals > 0]
    return Interval.around(float(sums.sum() / counts.sum()), means)


def paired_interval(
    left: np.ndarray, right: np.ndarray, episode: np.ndarray, rng: np.random.Generator, resamples: int = 1000
) -> Interval:
    """Mean of `left - right`, both measured on the same items: what the episodes share cancels out."""
    return mean_interval(np.asarray(left, np.float64) - np.asarray(right, np.float64), episode, rng, resamples)


def unpaired_interval(
    left: np.ndarray, left_episode: np.ndarray, right: np.ndarray, right_episode: np.ndarray,
    rng: np.random.Generator, resamples: int = 1000,
) -> Interval:  # fmt: skip
    """Mean of `left` minus mean of `right`, measured on unlike items, as on two splits: each side is resampled."""
    ratios = [
        _resampled(*_per_episode(*side), rng, resamples) for side in ((left, left_episode), (right, right_episode))
    ]
    (mine, drawn), (other, redrawn) = ratios
    return Interval.around(mine - other, drawn - redrawn)


def ratio_interval(
    left: np.ndarray, right: np.ndarray, episode: np.ndarray, rng: np.random.Generator, resamples: int = 1000
) -> Interval:
    """Sum of `left` over sum of `right`, both [M] of the same items; NaN where `right` is zero."""
    _, index = np.unique(episode, return_inverse=True)
    top, bottom = (np.bincount(index, weights=np.asarray(side, np.float64)) for side in (left, right))
    return Interval.around(*_resampled(top, bottom, rng, resamples))


def _resampled(
    top: np.ndarray, bottom: np.ndarray, rng: np.random.Generator, resamples: int
) -> tuple[float, np.ndarray]:
    """Ratio of the sums of two numbers per episode, and that of resampled episodes; NaN over zero."""
    draws_RE = rng.multinomial(len(top), np.full(len(top), 1 / len(top)), size=resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (draws_RE @ top) / (draws_RE @ bottom)
        return float(np.float64(top.sum()) / bottom.sum()), np.where(np.isfinite(drawn), drawn, np.nan)


def _per_episode(values: np.ndarray, episode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count of the finite values of each episode, in the order of sorted episode numbers."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    finite = np.isfinite(flat)
    _, index = np.unique(episode, return_inverse=True)
    sums = np.bincount(index, weights=np.where(finite, flat, 0.0).sum(axis=1))
    return sums, np.bincount(index, weights=finite.sum(axis=1))
