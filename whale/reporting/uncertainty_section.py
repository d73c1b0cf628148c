"""Uncertainty beside the true error: filmstrip, scatter, what the step explains, risk by coverage, reliability."""

import numpy as np

from whale.reporting.charts import Values, line_chart, scatter
from whale.reporting.html import Section, card, cards, heading, paragraph, wide
from whale.reporting.video_section import title_of, uncertain_strip

SCORES = ("retracing", "entropy", "ensemble", "step")


def uncertainty_section(uncertainty: dict[str, dict[str, np.ndarray]]) -> Section:
    """`uncertainty`: role.dataset.split -> the arrays that evaluate_uncertainty saved."""
    lead = (
        "Retracing: the last k+1 actions are replaced by k+1 equal ones that reach the same pose; a model that knows "
        "what it does arrives at the same picture. Each point is one imagined frame of an unseen episode."
    )
    if not uncertainty:
        return Section("Uncertainty", paragraph(lead, "soft") + paragraph("not measured", "note"))
    body = cards([card(_beside(arrays), title_of(name)) for name, arrays in uncertainty.items()], "films")
    parts = (
        ("By imagined step, relative to the mean over steps",
         "The error grows with the step. Disagreement falls: at first a branch imagines frames that the plain "
         "prediction was given; later both hold imagined ones. Pooled over steps, the two trends work against each "
         "other; within a step they do not. The numbers hold both.", by_step),
        ("Risk by coverage", "Mean error of the share of steps with the lowest score: a useful score rises to the "
         "right. `step` is the number of the imagined step, the baseline.", risk),
        ("Reliability", "Error expected from the score by a rising map fitted on other sequences, against the error "
         "found, in bins of equal counts. On the diagonal: calibrated.", calibrated),
    )  # fmt: skip
    for title, text, draw in parts:
        charts = [card(draw(arrays), title_of(name)) for name, arrays in uncertainty.items()]
        body += heading(title) + paragraph(text, "soft") + cards(charts)
    return Section("Uncertainty", paragraph(lead, "soft") + body)


def by_step(arrays: dict[str, np.ndarray]) -> str:
    """Mean error and mean scores at each imagined step, each over its own mean."""
    shown = {"error": "error_latent", "disagreement": "disagreement", "entropy": "entropy", "retracing": "retracing"}
    series: dict[str, tuple[Values, Values]] = {}
    for label, name in shown.items():
        if name in arrays and np.isfinite(arrays[name]).any():
            steps = np.nanmean(arrays[name], axis=0)
            series[label] = (list(range(1, len(steps) + 1)), steps / max(float(np.nanmean(steps)), 1e-12))
    return line_chart(series, "imagined step", "relative")


def risk(arrays: dict[str, np.ndarray]) -> str:
    """Mean latent error of what each score would keep."""
    series: dict[str, tuple[Values, Values]] = {
        score: (arrays["coverage"], arrays[f"risk.{score}"]) for score in SCORES if f"risk.{score}" in arrays
    }
    return line_chart(series, "coverage", "mean error")


def calibrated(arrays: dict[str, np.ndarray]) -> str:
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


def _beside(arrays: dict[str, np.ndarray]) -> str:
    chart = scatter(arrays["retracing"], arrays["error_latent"], "retracing uncertainty", "true error (latent)")
    return f"<div class=beside>{wide(uncertain_strip(arrays))}<div>{chart}</div></div>"
