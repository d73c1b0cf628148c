"""Intervals by resampling whole episodes: frames of one episode are not independent, episodes are.

Every function takes its random generator as an argument, so an interval is a function of data and seed.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A point estimate with the percentile interval around it."""

    value: float
    low: float
    high: float

    def as_metrics(self, name: str) -> dict[str, float]:
        """Flat dotted keys: `name`, `name.low`, `name.high`."""
        return {name: self.value, f"{name}.low": self.low, f"{name}.high": self.high}


def mean_interval(
    values: np.ndarray, episode: np.ndarray, rng: np.random.Generator, resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Mean of `values` (any shape [M, ...], NaN left out) with an interval over episodes; `episode` is int [M].

    Each resample draws as many episodes as there are, with replacement, and takes the ratio of sums: an episode
    with more values weighs more, exactly as in the plain mean.
    """
    sums, counts = _per_episode(values, episode)
    if counts.sum() == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    draws_RE = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    totals = draws_RE @ counts
    means = (draws_RE @ sums)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def paired_interval(
    left: np.ndarray, right: np.ndarray, episode: np.ndarray, rng: np.random.Generator, resamples: int = 1000
) -> Interval:
    """Mean of `left - right`, both measured on the same items: what the episodes share cancels out."""
    return mean_interval(np.asarray(left, np.float64) - np.asarray(right, np.float64), episode, rng, resamples)


def _per_episode(values: np.ndarray, episode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count of the finite values of each episode, in the order of sorted episode numbers."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    finite = np.isfinite(flat)
    _, index = np.unique(episode, return_inverse=True)
    sums = np.bincount(index, weights=np.where(finite, flat, 0.0).sum(axis=1))
    return sums, np.bincount(index, weights=finite.sum(axis=1))
