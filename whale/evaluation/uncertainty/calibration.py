"""From an uncertainty to an expected error and to a bound that holds nine times in ten, step by step.

error at step s ~ scale_s * (score / mean score at s) ** exponent. Each step has a scale of its own, because errors
grow over the steps where scores need not; one exponent says how much the score tells: 0 = nothing beyond the step's
number. What is said of a fit is measured on episodes that it has not seen. Bounds are split conformal (Lei et al. 2018)
per step: an error exceeds quantile * expected error in one case of ten on episodes like those of the calibration.
Shapes: E sequences, S steps. NaN pairs are left out.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from whale.evaluation.uncertainty.correlation import pairs, risk_coverage
from whale.evaluation.uncertainty.estimation.calibration_file import HIGHEST_EXPONENT

COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
EXPONENTS = np.linspace(0, HIGHEST_EXPONENT, 31)
FLOOR = 0.05  # of a step's mean score: a score of 0 is no promise of no error
FOLDS = 5
NOMINAL = 0.9


@dataclass(frozen=True)
class StepModel:
    """Expected error of each step as a power of the score; beyond the last step, that of the last one."""

    mean_score_S: np.ndarray
    scale_S: np.ndarray
    exponent: float

    @classmethod
    def fit(cls, score_ES: np.ndarray, error_ES: np.ndarray) -> Self:
        """Least squares of errors over their step's mean; at each step the mean of the fit is that of the errors."""
        pair_ES = np.isfinite(score_ES) & np.isfinite(error_ES)
        mean_score_S, mean_error_S = _mean(score_ES, pair_ES), _mean(error_ES, pair_ES)
        powers_XES = _ratio(score_ES, mean_score_S)[None] ** EXPONENTS[:, None, None]
        scale_XS = mean_error_S / _mean(powers_XES, np.broadcast_to(pair_ES, powers_XES.shape))
        with np.errstate(invalid="ignore", divide="ignore"):
            left_over = (error_ES - scale_XS[:, None] * powers_XES) / mean_error_S
        loss_X = np.where(pair_ES & np.isfinite(left_over), left_over, 0.0) ** 2
        best = int(np.argmin(loss_X.sum(axis=(1, 2))))
        return cls(mean_score_S, scale_XS[best], float(EXPONENTS[best]))

    def __call__(self, score_ES: np.ndarray) -> np.ndarray:
        """Expected errors of scores [E, S'] of steps 1, 2, ..."""
        step = np.minimum(np.arange(score_ES.shape[1]), len(self.scale_S) - 1)
        return self.scale_S[step] * _ratio(score_ES, self.mean_score_S[step]) ** self.exponent


@dataclass(frozen=True)
class Calibrated:
    """A model of the expected error, and for each step the factor above which one error in ten lies."""

    model: StepModel
    quantile_S: np.ndarray

    @classmethod
    def fit(cls, score_ES: np.ndarray, error_ES: np.ndarray, episode_E: np.ndarray) -> Self:
        """The quantile is that of errors over what a fit on OTHER episodes expected."""
        expected = out_of_fold(score_ES, error_ES, episode_E, StepModel.fit)
        return cls(StepModel.fit(score_ES, error_ES), _upper_quantile(error_ES, expected))

    def bound(self, score_ES: np.ndarray) -> np.ndarray:
        """The error that is exceeded in one case of ten; infinite where too few were seen to say so."""
        expected = self.model(score_ES)
        return expected * self.quantile_S[np.minimum(np.arange(expected.shape[1]), len(self.quantile_S) - 1)]

    def as_json(self) -> dict[str, Any]:
        """For calibration.json; null where nothing is known."""
        rows = zip(self.model.mean_score_S, self.model.scale_S, self.quantile_S, strict=True)
        steps = [{"mean_score": _number(m), "scale": _number(s), "quantile": _number(q)} for m, s, q in rows]
        return {"exponent": _number(self.model.exponent), "floor": FLOOR, "nominal": NOMINAL, "steps": steps}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Of what `as_json` gave."""

        def column(name: str, unknown: float) -> np.ndarray:
            return np.array([unknown if step[name] is None else step[name] for step in entry["steps"]], np.float64)

        model = StepModel(column("mean_score", math.nan), column("scale", math.nan), float(entry["exponent"]))
        return cls(model, column("quantile", math.inf))


Fit = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def out_of_fold(score_ES: np.ndarray, error_ES: np.ndarray, episode_E: np.ndarray, fit: Fit) -> np.ndarray:
    """What a fit on the other episodes says of each: five folds of whole episodes; NaN where there is one alone."""
    found = np.full(error_ES.shape, np.nan)
    for held_out in _folds(episode_E):
        found[held_out] = fit(score_ES[~held_out], error_ES[~held_out])(score_ES[held_out])
    return found


@dataclass(frozen=True)
class Reliability:
    """Expected against found error in bins of equal counts, all out of fold.

    `error`: expected calibration error, the mean |difference| over the mean error.
    """

    expected: np.ndarray
    found: np.ndarray
    error: float


def reliability(expected_ES: np.ndarray, error_ES: np.ndarray, num_bins: int = 5) -> Reliability:
    """`expected_ES` by a fit on other episodes."""
    x, y = pairs(expected_ES, error_ES)
    if len(x) < num_bins:
        return Reliability(np.full(num_bins, np.nan), np.full(num_bins, np.nan), math.nan)
    bins = np.array_split(np.argsort(x, kind="stable"), num_bins)
    means = np.array([[x[part].mean(), y[part].mean()] for part in bins])
    sizes = np.array([len(part) for part in bins]) / len(x)
    gap = float((sizes * np.abs(means[:, 0] - means[:, 1])).sum() / y.mean()) if y.mean() > 0 else math.nan
    return Reliability(means[:, 0], means[:, 1], gap)


@dataclass(frozen=True)
class Coverage:
    """Share of errors below their bound, in all and by step [S]; `width`: mean bound over mean error."""

    share: float
    share_S: np.ndarray
    width: float


def coverage(bound_ES: np.ndarray, error_ES: np.ndarray) -> Coverage:
    """Of bounds that were set without these errors; NaN without any."""
    pair = ~np.isnan(bound_ES) & np.isfinite(error_ES)
    if not pair.any():
        return Coverage(math.nan, np.full(error_ES.shape[1], np.nan), math.nan)
    covered = np.where(pair, error_ES <= bound_ES, np.nan)
    width = float(bound_ES[pair].mean() / error_ES[pair].mean()) if error_ES[pair].mean() > 0 else math.nan
    return Coverage(float(covered[pair].mean()), _mean(covered, pair), width)


def cross_conformal(score_ES: np.ndarray, error_ES: np.ndarray, episode_E: np.ndarray) -> np.ndarray:
    """The bound of each error by a calibration on the other episodes: [E, S]."""
    found = np.full(error_ES.shape, np.nan)
    for held_out in _folds(episode_E):
        others = ~held_out
        calibrated = Calibrated.fit(score_ES[others], error_ES[others], episode_E[others])
        found[held_out] = calibrated.bound(score_ES[held_out])
    return found


def calibration(score_ES: np.ndarray, error_ES: np.ndarray, episode_E: np.ndarray) -> dict[str, object]:
    """What calibration.json holds of one score: the calibration, and for each coverage a threshold and its risk.

    "coverage 0.8, expected_error e, risk r": keeping the steps whose expected error is at most e keeps 80 % of them,
    whose mean error is r, on episodes that the fit has not seen.
    """
    num_pairs = int((np.isfinite(score_ES) & np.isfinite(error_ES)).sum())
    if num_pairs == 0:
        return {"num_pairs": 0}
    entry = {
        "num_pairs": num_pairs,
        "num_episodes": len(np.unique(episode_E)),
        **Calibrated.fit(score_ES, error_ES, episode_E).as_json(),
        "thresholds": [],
    }
    x, y = pairs(out_of_fold(score_ES, error_ES, episode_E, StepModel.fit), error_ES)
    if len(x):
        limits = np.quantile(x, COVERAGES, method="inverted_cdf")
        rows = zip(COVERAGES, limits, risk_coverage(x, y, np.array(COVERAGES)), strict=True)
        entry["thresholds"] = [
            {"coverage": share, "expected_error": _number(limit), "risk": _number(risk)} for share, limit, risk in rows
        ]
    return entry


def _folds(episode_E: np.ndarray) -> Iterator[np.ndarray]:
    """Masks of the sequences to hold out; none where all are of one episode."""
    _, number = np.unique(episode_E, return_inverse=True)
    if number.max() > 0:
        yield from (number % FOLDS == fold for fold in range(min(FOLDS, int(number.max()) + 1)))


def _upper_quantile(error_ES: np.ndarray, expected_ES: np.ndarray) -> np.ndarray:
    """Of each step the ceil((n + 1) * 0.9)-th smallest error over the expected one; infinite where n < 9."""
    found = np.full(error_ES.shape[1], np.inf)
    for step in range(error_ES.shape[1]):
        expected, error = pairs(expected_ES[:, step], error_ES[:, step])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.sort(np.where(error == 0, 0.0, error / expected))
        place = math.ceil((len(ratio) + 1) * NOMINAL - 1e-9)
        if 0 < place <= len(ratio):
            found[step] = ratio[place - 1]
    return found


def _ratio(score: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Of a score and its step's mean; 1 where all scores of a step are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.maximum(np.where(mean > 0, score / mean, 1.0 + 0.0 * score), FLOOR)


def _mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Over the sequences, the last axis but one; NaN where none counts."""
    count = counted.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, np.where(counted, values, 0.0).sum(axis=-2) / np.maximum(count, 1), np.nan)


def _number(value: float) -> float | None:
    """Six digits: float noise of the last bits does not show."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
