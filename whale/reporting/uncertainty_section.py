"""Uncertainty beside the true error: filmstrip, scatter, what the step explains, risk by coverage, reliability."""

import numpy as np
from markupsafe import Markup

from whale.reporting.charts import Values, line_chart, scatter
from whale.reporting.page import Section, render
from whale.reporting.video_section import Arrays, title_of, uncertain_strip

SCORES = ("retracing", "entropy", "ensemble", "step")
FILTERED = {"latent": "error", "state": "end effector", "objects": "coloured objects lost"}


def uncertainty_section(uncertainty: dict[str, Arrays]) -> Section:
    """`uncertainty`: role.dataset.split -> the arrays that evaluate_uncertainty saved."""
    rows = [
        {
            "title": title_of(name),
            "strip": uncertain_strip(arrays),
            "pairs": scatter(
                arrays["retracing"], arrays["error_latent"], "retracing uncertainty", "true error (latent)"
            ),
            "by_step": by_step(arrays),
            "risk": risk(arrays),
            "reliability": calibrated(arrays),
            "filtered": [(words, kept(arrays, error)) for error, words in FILTERED.items()],
        }
        for name, arrays in uncertainty.items()
    ]
    return Section("Uncertainty", render("uncertainty.html", rows=rows))


def by_step(arrays: Arrays) -> Markup:
    """Mean error and mean scores at each imagined step, each over its own mean."""
    shown = {"error": "error_latent", "disagreement": "disagreement", "entropy": "entropy", "retracing": "retracing"}
    series: dict[str, tuple[Values, Values]] = {}
    for label, name in shown.items():
        if name in arrays and np.isfinite(arrays[name]).any():
            steps = np.nanmean(arrays[name], axis=0)
            series[label] = (list(range(1, len(steps) + 1)), steps / max(float(np.nanmean(steps)), 1e-12))
    return line_chart(series, "imagined step", "relative to its mean")


def risk(arrays: Arrays) -> Markup:
    """Mean latent error of what each score would keep."""
    series: dict[str, tuple[Values, Values]] = {
        score: (arrays["coverage"], arrays[f"risk.{score}"]) for score in SCORES if f"risk.{score}" in arrays
    }
    return line_chart(series, "share of steps kept", "mean error (latent)")


def kept(arrays: Arrays, error: str) -> Markup:
    """An error of the rollouts that each score trusts most, over that of as many chosen at random (P Fig. 6)."""
    series: dict[str, tuple[Values, Values]] = {
        score: (arrays["percent"], arrays[f"kept.{error}.{score}"])
        for score in ("retracing", "entropy", "ensemble", "moved")
        if f"kept.{error}.{score}" in arrays
    }
    if series:
        series["chance"] = (arrays["percent"], [1.0] * len(arrays["percent"]))
    return line_chart(series, "percent of rollouts kept", "over a random choice")


def calibrated(arrays: Arrays) -> Markup:
    """Expected against found error of each score, and the diagonal."""
    series: dict[str, tuple[Values, Values]] = {}
    for score in ("retracing", "entropy", "ensemble"):
        if f"expected.{score}" in arrays:
            order = np.argsort(arrays[f"expected.{score}"], kind="stable")
            series[score] = (arrays[f"expected.{score}"][order], arrays[f"found.{score}"][order])
    finite = [x[np.isfinite(x)] for pair in series.values() for x in map(np.asarray, pair)]
    values = np.concatenate(finite) if finite else np.empty(0)
    if len(values):
        series["diagonal"] = ([float(values.min()), float(values.max())],) * 2
    return line_chart(series, "expected error", "found error")
