"""From an uncertainty to an expected error: a monotone map, its reliability, and thresholds to act on.

The map is isotonic regression (pool adjacent violators): the best fit among all maps that do not fall. Reliability is
measured on sequences the map has not seen (two folds). Shapes: E sequences, S steps, M pairs; NaN pairs are left out.
"""

from dataclasses import dataclass

import numpy as np

from whale.evaluation.uncertainty.correlation import pairs, risk_coverage

COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FOLDS = 2


@dataclass(frozen=True)
class IsotonicMap:
    """Expected error as a step function of the uncertainty, linear in between, flat outside; both rise."""

    uncertainty: np.ndarray
    error: np.ndarray

    def __call__(self, uncertainty: np.ndarray) -> np.ndarray:
        return np.interp(uncertainty, self.uncertainty, self.error)


def fit_isotonic(uncertainty: np.ndarray, error: np.ndarray) -> IsotonicMap:
    """Least squares among non-decreasing maps; equal uncertainties share one value. ValueError without a pair."""
    x, y = pairs(uncertainty, error)
    if len(x) == 0:
        raise ValueError("no pair of uncertainty and error to fit on")
    places, inverse = np.unique(x, return_inverse=True)
    counts = np.bincount(inverse).astype(np.float64)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, places
    for mean, weight in zip(np.bincount(inverse, weights=y) / counts, counts, strict=True):
        block = (float(mean), float(weight), 1)
        while blocks and blocks[-1][0] >= block[0]:
            below = blocks.pop()
            total = below[1] + block[1]
            block = ((below[0] * below[1] + block[0] * block[1]) / total, total, below[2] + block[2])
        blocks.append(block)
    fitted = np.repeat([mean for mean, _, _ in blocks], [size for _, _, size in blocks])
    kept = _corners(fitted)
    return IsotonicMap(places[kept], fitted[kept])


@dataclass(frozen=True)
class Reliability:
    """Expected against found error in bins of equal counts, all out of fold. `gap`: mean |difference| / mean error."""

    expected: np.ndarray
    found: np.ndarray
    gap: float


def reliability(uncertainty_ES: np.ndarray, error_ES: np.ndarray, num_bins: int = 5) -> Reliability:
    """Fit on every other sequence, expect on the rest, and the other way round."""
    expected = np.full(error_ES.shape, np.nan)
    for fold in range(FOLDS):
        held_out = np.arange(len(error_ES)) % FOLDS == fold
        x, _ = pairs(uncertainty_ES[~held_out], error_ES[~held_out])
        if len(x):
            expected[held_out] = fit_isotonic(uncertainty_ES[~held_out], error_ES[~held_out])(uncertainty_ES[held_out])
    x, y = pairs(expected, error_ES)
    if len(x) < num_bins:
        return Reliability(np.full(num_bins, np.nan), np.full(num_bins, np.nan), float("nan"))
    order = np.argsort(x, kind="stable")
    bins = np.array_split(order, num_bins)
    means = np.array([[x[part].mean(), y[part].mean()] for part in bins])
    sizes = np.array([len(part) for part in bins]) / len(x)
    gap = float((sizes * np.abs(means[:, 0] - means[:, 1])).sum() / y.mean()) if y.mean() > 0 else float("nan")
    return Reliability(means[:, 0], means[:, 1], gap)


def calibration(uncertainty_ES: np.ndarray, error_ES: np.ndarray) -> dict[str, object]:
    """What calibration.json holds of one method: the map, and for each coverage the threshold and the error kept.

    "coverage 0.8, uncertainty u, risk r": keeping what is at most u keeps 80 % of the steps, whose mean error is r.
    """
    x, y = pairs(uncertainty_ES, error_ES)
    if len(x) == 0:
        return {"num_pairs": 0}
    fitted = fit_isotonic(x, y)
    coverages = np.array(COVERAGES)
    thresholds = np.quantile(x, coverages, method="inverted_cdf")
    risks = risk_coverage(x, y, coverages)
    rows = zip(COVERAGES, thresholds, risks, strict=True)
    return {
        "num_pairs": len(x),
        "mean_uncertainty": _number(x.mean()),
        "mean_error": _number(y.mean()),
        "error_worst_quartile": _number(np.quantile(y, 0.75)),
        "map": {
            "uncertainty": [_number(value) for value in fitted.uncertainty],
            "error": [_number(value) for value in fitted.error],
        },
        "thresholds": [{"coverage": c, "uncertainty": _number(u), "risk": _number(r)} for c, u, r in rows],
    }


def _corners(fitted: np.ndarray) -> np.ndarray:
    """Both ends of every flat piece: what linear interpolation needs."""
    changes = np.flatnonzero(np.diff(fitted) != 0)
    return np.unique(np.concatenate([[0], changes, changes + 1, [len(fitted) - 1]]))


def _number(value: float) -> float:
    """Six digits: float noise of the last bits does not show."""
    return float(f"{value:.6g}")
