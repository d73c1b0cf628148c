"""Do counts look as if drawn with the given shares? Pearson's statistic and its tail, without scipy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ALARM = 1.0e-3
EPSILON, MAX_TERMS = 1.0e-15, 10_000


def chi_square(counts: Sequence[int] | np.ndarray, shares: Sequence[float] | np.ndarray) -> Mapping[str, Any]:
    """{"statistic", "degrees", "p", "alarm"}: alarm means p < 1e-3, the counts do not fit the shares.

    Counts in whole blocks follow the plan exactly, so their statistic is 0 and p is 1.
    """
    observed = np.asarray(counts, np.float64)
    expected = np.asarray(shares, np.float64) * observed.sum()
    degrees = len(observed) - 1
    if degrees == 0 or observed.sum() == 0:
        return {"statistic": 0.0, "degrees": degrees, "p": 1.0, "alarm": False}
    statistic = float((np.square(observed - expected) / expected).sum())
    p = upper_gamma(degrees / 2, statistic / 2)
    return {"statistic": statistic, "degrees": degrees, "p": p, "alarm": p < ALARM}


def upper_gamma(a: float, x: float) -> float:
    """Q(a, x) = Gamma(a, x) / Gamma(a): 1 - P by its series below a + 1, Lentz's continued fraction above."""
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1.0 - scale * _series(a, x) if x < a + 1 else scale * _fraction(a, x)


def _series(a: float, x: float) -> float:
    term = total = 1.0 / a
    for n in range(1, MAX_TERMS):
        term *= x / (a + n)
        total += term
        if term < total * EPSILON:
            break
    return total


def _fraction(a: float, x: float) -> float:
    tiny = 1.0e-300
    b = x + 1.0 - a
    c, d = 1.0 / tiny, 1.0 / b
    h = d
    for n in range(1, MAX_TERMS):
        an = -n * (n - a)
        b += 2.0
        d = 1.0 / (an * d + b or tiny)
        c = b + an / c or tiny
        h *= d * c
        if abs(d * c - 1.0) < EPSILON:
            break
    return h
