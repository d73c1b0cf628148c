"""loss = a + b log10(FLOP), by least squares (P 6.3 "log-linear"), and how it does on a size that it has not seen.

Intervals take losses of resampled episodes: the same fit to each resample. They say how much the choice of test
episodes moves the line; that another seed of training would move it, too, they do not say.

Shapes: M models, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from whale.common.errors import ConfigError
from whale.evaluation.numbers.bootstrap import Interval
from whale.evaluation.uncertainty.correlation import explained

FEWEST_SIZES = 3  # a line through two points always fits, and a held-out size must leave two
HOLDS, FAILS = "holds", "does not hold"


@dataclass(frozen=True)
class LogLinear:
    """The line of every resample, float64 [R] each; the first is that of all episodes. Per decade of FLOP: `b`."""

    a: np.ndarray
    b: np.ndarray

    @classmethod
    def fitted(cls, flops_M: np.ndarray, loss_RM: np.ndarray) -> Self:
        """Raises ConfigError where all models cost the same: no line can be drawn."""
        x_M = np.log10(np.asarray(flops_M, np.float64))
        spread_M = x_M - x_M.mean()
        if np.square(spread_M).sum() < 1e-12:
            raise ConfigError("a line needs models of unlike FLOP", found=[f"{flop:.3g}" for flop in flops_M])
        loss_RM = np.atleast_2d(np.asarray(loss_RM, np.float64))
        b_R = loss_RM @ spread_M / np.square(spread_M).sum()
        return cls(loss_RM.mean(axis=1) - b_R * x_M.mean(), b_R)

    def predict(self, flops_M: np.ndarray) -> np.ndarray:
        """Losses [R, M] of models that cost `flops_M`."""
        return self.a[:, None] + self.b[:, None] * np.log10(np.asarray(flops_M, np.float64))


def fit_metrics(flops: Sequence[float], sizes: Sequence[float], loss_RM: np.ndarray) -> dict[str, float | int | str]:
    """The line, its interval, what it leaves, and its error on every size held out, beside that of no line at all.

    sizes: a number that grows with the network; models of one size are held out together. loss_RM: of all episodes in
    row 0, of resampled ones below, if any. `b_standard_error`: by the residuals, M - 2 degrees of freedom. "No change"
    stands for no line: the loss of the nearest size that is known.
    """
    flops_M, sizes_M, loss_RM = np.asarray(flops, np.float64), np.asarray(sizes), np.atleast_2d(loss_RM)
    line = LogLinear.fitted(flops_M, loss_RM)
    errors = {float(size): _held_out(flops_M, sizes_M == size, loss_RM) for size in np.unique(sizes_M)}
    residual_M, x_M = line.predict(flops_M)[0] - loss_RM[0], np.log10(flops_M)
    largest, unchanged = errors[float(sizes_M.max())]
    metrics: dict[str, float | int | str] = {
        "a": float(line.a[0]),
        "b": float(line.b[0]),
        "r2": explained(loss_RM[0], line.predict(flops_M)[0]),
        "b_standard_error": float(np.sqrt(np.square(residual_M).sum() / (len(x_M) - 2) / (len(x_M) * x_M.var()))),
        "worst_residual": float(np.abs(residual_M).max()),
        "num_models": len(flops_M),
        "num_sizes": len(errors),
        "held_out_largest.error": float(largest[0]),
        "held_out_largest.error_no_change": unchanged,
        "held_out.mean_error": float(np.mean([abs(error[0]) for error, _ in errors.values()])),
        "held_out.mean_error_no_change": float(np.mean([abs(other) for _, other in errors.values()])),
    }
    for name, values in (("a", line.a), ("b", line.b), ("held_out_largest.error", largest)):
        if len(loss_RM) > 1:
            metrics |= Interval.around(float(values[0]), values[1:]).as_metrics(name)
    return metrics | {"status": status(metrics)}


def status(metrics: dict[str, float | int | str]) -> str:
    """Whether the line says anything: the loss falls, surely, and the line knows the largest size better than none."""
    why = []
    if not float(metrics.get("b.high", metrics["b"])) < 0:
        why.append("the loss does not fall with FLOP" if float(metrics["b"]) >= 0 else "the interval of b holds 0")
    error, other = (abs(float(metrics[f"held_out_largest.{name}"])) for name in ("error", "error_no_change"))
    if not error < other:
        why.append("held out, the largest size is predicted no better than as the next smaller one's loss")
    return f"{FAILS}: {'; '.join(why)}" if why else HOLDS


def _held_out(flops_M: np.ndarray, is_out_M: np.ndarray, loss_RM: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean over the models of a size of prediction minus loss: by the line of the others [R], and by "no change"."""
    known, out = flops_M[~is_out_M], flops_M[is_out_M]
    line = LogLinear.fitted(known, loss_RM[:, ~is_out_M])
    error_R = (line.predict(out) - loss_RM[:, is_out_M]).mean(axis=1)
    distance = np.abs(np.log10(known)[None] - np.log10(out)[:, None])
    nearest = [loss_RM[0, ~is_out_M][row <= row.min() + 1e-9].mean() for row in distance]
    return error_R, float(np.mean(nearest - loss_RM[0, is_out_M]))
