"""Does a score order what it should order: ranks, AUROC, risk against coverage.

All functions take arrays of any equal shape and leave out pairs in which either value is NaN.
"""

import numpy as np


def auroc(score: np.ndarray, is_positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counted half; NaN when one class is empty."""
    x, positive = _pairs(score, np.asarray(is_positive, np.float64))
    is_up = positive > 0
    num_up, num_down = int(is_up.sum()), int((~is_up).sum())
    if num_up == 0 or num_down == 0:
        return float("nan")
    # Mann-Whitney: the rank sum of the positives, less the ranks they hold among themselves
    return float((ranks(x)[is_up].sum() - num_up * (num_up + 1) / 2) / (num_up * num_down))


def worst_share(error: np.ndarray, share: float) -> np.ndarray:
    """True for the errors above the (1 - share) quantile: `share=0.25` marks the worst quartile. NaN is False."""
    return error > np.nanquantile(error, 1 - share)


def risk_coverage(score: np.ndarray, error: np.ndarray, coverages: np.ndarray) -> np.ndarray:
    """Mean error of the `coverage` share of items with the LOWEST score, for each coverage in (0, 1].

    A useful uncertainty rises to the right; a useless one stays flat at the mean error.
    """
    x, y = _pairs(score, error)
    if len(x) == 0:
        return np.full(len(coverages), np.nan)
    running = np.cumsum(y[np.argsort(x, kind="stable")]) / np.arange(1, len(y) + 1)
    kept = np.clip(np.ceil(np.asarray(coverages) * len(y)).astype(int), 1, len(y))
    return running[kept - 1]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of the ranks they cover."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse.ravel()]


def _pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(left, np.float64).ravel(), np.asarray(right, np.float64).ravel()
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]
