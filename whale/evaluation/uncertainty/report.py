"""Does uncertainty know where the model is wrong: correlations at three levels, AUROC, risk and coverage, calibration.

Three levels, because a rollout's error grows with the step while disagreement need not: pooled over (sequence, step),
as Table 3 is read here; within a step, across sequences; and per rollout, of each sequence's means. The number of the
step is a score too: the baseline that an uncertainty has to beat. Shapes: E sequences, h steps.
"""

import numpy as np

from whale.evaluation.measuring.heldout import Dataset
from whale.evaluation.measuring.stack import Stack
from whale.evaluation.protocol import protocol
from whale.evaluation.uncertainty.calibration import calibration, reliability
from whale.evaluation.uncertainty.correlation import (
    Statistic,
    auroc,
    interval,
    pearson,
    per_rollout,
    risk_coverage,
    spearman,
    within_step,
    worst_share,
)
from whale.evaluation.uncertainty.measurement import ERRORS, SCORES, EvaluateUncertaintyConfig

COVERAGES = np.linspace(0.1, 1.0, 10)
LEVELS: dict[str, Statistic] = {
    "pearson": pearson,
    "spearman": spearman,
    "within_step.pearson": within_step(pearson),
    "within_step.spearman": within_step(spearman),
    "per_rollout.pearson": per_rollout(pearson),
    "per_rollout.spearman": per_rollout(spearman),
}


def uncertainty_metrics(arrays: dict[str, np.ndarray], config: EvaluateUncertaintyConfig) -> dict[str, object]:
    """Every score against every error, with intervals over sequences."""
    metrics: dict[str, object] = {}
    for score in (name for name in SCORES if name in arrays):
        values = arrays[score]
        defined = np.isfinite(values)
        for error in (name for name in ERRORS if f"error_{name}" in arrays):
            found = np.where(defined, arrays[f"error_{error}"], np.nan)
            metrics.update(_agreement(f"{score}.{error}", values, found, config))
        metrics[f"{score}.mean"] = float(values[defined].mean()) if defined.any() else float("nan")
        metrics[f"{score}.undefined"] = int((~defined).sum())
    for name in ("ensemble", "state", "lpips"):
        if name not in arrays and f"error_{name}" not in arrays:
            metrics[f"{name}.status"] = UNAVAILABLE[name]
    if "probe_error" in arrays:
        metrics["state.error_m"] = float(arrays["error_state"].mean())
        metrics["state.probe_error_m"] = float(arrays["probe_error"].mean())
    metrics["psnr"] = float(arrays["psnr"].mean())
    metrics["num_sequences"], metrics["num_pairs"] = (len(arrays["psnr"]), int(arrays["psnr"].size))
    return metrics


UNAVAILABLE = {
    "ensemble": "unavailable: evaluate_uncertainty.ensemble names no further dynamics",
    "state": "unavailable: no recorded state, or evaluate_uncertainty.state_episodes is 0",
    "lpips": "unavailable: no feature weights (evaluate_uncertainty.lpips)",
}


def curves(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the report draws: risk by coverage and reliability of each score, against the latent error."""
    drawn = {"coverage": COVERAGES}
    for score in (name for name in SCORES if name in arrays):
        values, error = arrays[score], arrays["error_latent"]
        drawn[f"risk.{score}"] = risk_coverage(values, np.where(np.isfinite(values), error, np.nan), COVERAGES)
        found = reliability(values, error)
        drawn[f"expected.{score}"], drawn[f"found.{score}"] = found.expected, found.found
    return drawn


def calibration_entry(
    stack: Stack, role: str, arrays: list[dict[str, np.ndarray]], config: EvaluateUncertaintyConfig
) -> dict[str, object]:
    """One checkpoint's part of calibration.json: what an uncertainty of this model means, fitted on all `arrays`."""
    methods = {}
    for score in (name for name in SCORES if name != "step" and arrays and all(name in each for each in arrays)):
        values, error = (np.concatenate([each[name] for each in arrays]) for name in (score, "error_latent"))
        methods[score] = calibration(values, error)
    return {
        "role": role,
        "dynamics": config.model,
        "checkpoint": dict(stack.weights[config.model]),
        "error": "tokenizer",
        "distance": config.distance_name,
        "context": config.context,
        "horizon": config.horizon,
        "depths": config.retracing_steps,
        "methods": methods,
    }


def uncertainty_protocol(stack: Stack, dataset: Dataset, split: str, config: EvaluateUncertaintyConfig) -> str:
    """How these numbers were measured."""
    return protocol(
        "uncertainty",
        model=stack.digests[config.model],
        data=f"{dataset.name}/{split}",
        shards=dataset.shards.digest[:16],
        resolution=stack.tokenizer.config.resolution,
        window=dataset.window,
        context=config.context,
        horizon=config.horizon,
        depths=",".join(map(str, config.retracing_steps)),
        distance=config.distance_name,
        decoding="argmax",
        episodes=config.max_episodes,
        seed=config.seed,
    )


def _agreement(name: str, score: np.ndarray, error: np.ndarray, config: EvaluateUncertaintyConfig) -> dict[str, object]:
    metrics: dict[str, object] = {}
    for level, statistic in LEVELS.items():
        rng = np.random.default_rng([config.seed, *f"{name}.{level}".encode()])
        found = interval(statistic, score, error, rng, config.resamples)
        metrics.update(found.as_metrics(f"{name}.{level}"))
    metrics[f"{name}.auroc_worst_quartile"] = auroc(score, worst_share(error, 0.25))
    metrics[f"{name}.auroc_above_median"] = auroc(score, worst_share(error, 0.5))
    metrics[f"{name}.risk_at_half_coverage"] = float(risk_coverage(score, error, np.array([0.5]))[0])
    metrics[f"{name}.mean_risk"] = float(np.nanmean(error))
    metrics[f"{name}.calibration_gap"] = reliability(score, error).gap
    return metrics
