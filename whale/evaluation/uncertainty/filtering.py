"""Keep the rollouts that a score trusts most, and see how good they are (P Fig. 6).

A rollout's score is the sum over its steps, "cumulative uncertainty". A random choice has the mean error of all, in
expectation; the error itself as the score is the best there is. Shapes: E rollouts, R resamples.
"""

import numpy as np

from whale.evaluation.numbers.bootstrap import Interval
from whale.evaluation.uncertainty.correlation import Resampling

PERCENT = (5, 10, 25, 50, 100)


def kept_error(score_E: np.ndarray, error_E: np.ndarray, weights_RE: np.ndarray, share: float) -> np.ndarray:
    """Mean error of the `share` of each resample with the lowest scores, at least one rollout: [R].

    Ties stay in their order; the rollout at the border counts with the part that is still missing.
    """
    order = np.argsort(score_E, kind="stable")
    weights, error = weights_RE[:, order], error_E[order]
    wanted = np.maximum(np.ceil(share * weights.sum(axis=1, keepdims=True) - 1e-9), 1.0)
    before = np.cumsum(weights, axis=1) - weights
    taken = np.clip(wanted - before, 0.0, weights)
    return (taken * error).sum(axis=1) / taken.sum(axis=1)


def filtered(score_ES: np.ndarray, error_E: np.ndarray, resampling: Resampling) -> dict[int, Interval]:
    """Percent kept -> mean error of what is kept over that of a random choice, with its interval over episodes.

    1: no better than chance. Rollouts without a finite score at any step are left out.
    """
    total_E = np.where(np.isfinite(score_ES).any(axis=1), np.nansum(score_ES, axis=1), np.nan)
    used = np.isfinite(total_E) & np.isfinite(error_E)
    weights = resampling.weights_RE[:, used]
    weights = weights[weights.sum(axis=1) > 0]
    if not used.any() or not len(weights):
        return {}
    random_R = (weights * error_E[used]).sum(axis=1) / weights.sum(axis=1)
    found = {}
    for percent in PERCENT:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio_R = kept_error(total_E[used], error_E[used], weights, percent / 100) / random_R
        found[percent] = Interval.around(float(ratio_R[0]), ratio_R[1:])
    return found
