"""Does uncertainty know where the model is wrong: correlations at three levels, calibration, bounds, filtering.

Three levels, because a rollout's error grows with the step while disagreement need not: pooled over (window, step);
within a step, across windows; and per rollout, of each window's means. Everything is said of both decodings, beside
baselines (baselines.py) and with the interval of the difference. Shapes: E windows, h steps.
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from whale.evaluation.measuring.rollouts.heldout import Dataset
from whale.evaluation.measuring.rollouts.stack import Stack
from whale.evaluation.numbers.bootstrap import Interval
from whale.evaluation.numbers.metrics import under
from whale.evaluation.numbers.protocol import protocol
from whale.evaluation.uncertainty.calibration import (
    NOMINAL,
    Calibrated,
    StepModel,
    calibration,
    coverage,
    cross_conformal,
    out_of_fold,
    reliability,
)
from whale.evaluation.uncertainty.correlation import (
    Resampling,
    Statistic,
    auroc_above_step_median,
    pearson,
    per_rollout,
    risk_area,
    risk_coverage,
    spearman,
    within_step,
)
from whale.evaluation.uncertainty.estimation.decoding import Mode
from whale.evaluation.uncertainty.filtering import PERCENT, filtered
from whale.evaluation.uncertainty.measurement import ERRORS, SCORES, Arrays, EvaluateUncertaintyConfig, Measured

COVERAGES = np.linspace(0.1, 1.0, 10)
POOLED: dict[str, Statistic] = {"pearson": pearson, "spearman": spearman}
WITHIN_STEP: dict[str, Statistic] = {f"within_step.{name}": within_step(each) for name, each in POOLED.items()}
PER_ROLLOUT: dict[str, Statistic] = {f"per_rollout.{name}": per_rollout(each) for name, each in POOLED.items()}
LEVELS = POOLED | WITHIN_STEP | PER_ROLLOUT
RIVALS = ("entropy", "moved", "step")  # whose difference to retracing has an interval
BESIDE_LATENT = ("retracing", "entropy", "ensemble", "moved", "step")  # scores that are held against other errors, too
NOT_ADDED_UP = ("step", "cumulative_entropy")  # says nothing of a whole rollout; is a sum already
UNAVAILABLE = {
    "ensemble": "unavailable: evaluate_uncertainty.ensemble names no further dynamics",
    "state": "unavailable: no recorded state, or evaluate_uncertainty.state_episodes is 0",
    "lpips": "unavailable: no feature weights (evaluate_uncertainty.lpips)",
    "percep_efflite0": "unavailable: no feature weights (evaluate_uncertainty.percep_efflite0)",
    "mc_variance": "unavailable: evaluate_uncertainty.mc_rollouts is 0",
    "neighbour": "unavailable: evaluate_uncertainty.neighbour_episodes is 0",
}
NO_OBJECTS = "unavailable: no coloured area in the last recorded frames, or none is lost"


def uncertainty_metrics(
    measured: Measured, config: EvaluateUncertaintyConfig, others: Sequence[Measured] = ()
) -> dict[str, object]:
    """All numbers of one split. `others`: windows of other robots, for bounds that are calibrated elsewhere."""
    rng = np.random.default_rng([config.seed, *b"agreement"])
    resampling = Resampling.of(measured.episode, rng, config.resamples)
    metrics: dict[str, object] = {"num_windows": len(measured.episode)}
    metrics["num_episodes"] = len(np.unique(measured.episode))
    for mode, arrays in measured.scored.items():
        found = score_metrics(arrays, measured.episode, resampling)
        metrics |= found if arrays is measured.main else under(mode, found)
    metrics |= under("teacher_forced", one_step_metrics(measured.one_step, resampling))
    metrics |= under("decoding", measured.quality)
    metrics |= under("filter", filter_metrics(measured.main, resampling))
    metrics |= under("conformal", conformal_metrics(measured, others))
    metrics |= grouped_metrics(measured, config)
    for name, why in UNAVAILABLE.items():
        if name not in measured.main and f"error_{name}" not in measured.main:
            metrics[f"{name}.status"] = why
    return metrics | under("summary", _summary(metrics))


def score_metrics(arrays: Arrays, episode: np.ndarray, resampling: Resampling) -> dict[str, object]:
    """Every score of one decoding against every error."""
    metrics = _agreement(arrays, LEVELS, RIVALS, resampling)
    for score in (name for name in SCORES if name in arrays):
        values, defined = arrays[score], np.isfinite(arrays[score])
        metrics |= under(f"{score}.latent", _decisions(values, arrays["error_latent"], episode, resampling))
        metrics[f"{score}.mean"] = float(values[defined].mean()) if defined.any() else math.nan
        metrics[f"{score}.undefined"] = int((~defined).sum())
    for error, score in product(ERRORS[1:], BESIDE_LATENT):
        if f"error_{error}" in arrays and score in arrays:
            for level in ("pearson", "within_step.pearson", "per_rollout.pearson"):
                values = resampling.values(LEVELS[level], arrays[score], arrays[f"error_{error}"])
                metrics |= _interval(values).as_metrics(f"{score}.{error}.{level}")
    if "probe_error" in arrays:
        metrics["state.error_m"] = float(arrays["error_state"].mean())
        metrics["state.probe_error_m"] = float(arrays["probe_error"].mean())
    metrics["latent.error"] = float(np.nanmean(arrays["error_latent"]))
    metrics["psnr"] = float(arrays["psnr"].mean())
    return metrics


def one_step_metrics(arrays: Arrays, resampling: Resampling) -> dict[str, object]:
    """Frames imagined from recorded ones: none is further from the truth by its step, and no model talks to itself."""
    metrics = _agreement(arrays, POOLED | PER_ROLLOUT, RIVALS[:2], resampling)
    return metrics | {"latent.error": float(arrays["error_latent"].mean()), "psnr": float(arrays["psnr"].mean())}


def grouped_metrics(measured: Measured, config: EvaluateUncertaintyConfig) -> dict[str, object]:
    """Correlation with the latent error within each task and each policy, `task.<name>.<score>.latent.`, at three
    levels; `task.mean` is the mean over tasks, which Table 3 prints, and there `minus_<rival>` retracing's lead.
    """
    rng, metrics = np.random.default_rng([config.seed, *b"groups"]), dict[str, object]()
    together: dict[str, list[np.ndarray]] = {}
    for group in measured.groups:
        resampling = Resampling.of(measured.episode[group.rows], rng, config.resamples)
        error = measured.main["error_latent"][group.rows]
        for score, level in product(BESIDE_LATENT, ("pearson", "within_step.pearson", "per_rollout.pearson")):
            if score in measured.main and not (score == "step" and level != "pearson"):
                values = resampling.values(LEVELS[level], measured.main[score][group.rows], error)
                metrics |= _interval(values).as_metrics(f"{group.prefix}.{score}.latent.{level}")
                together.setdefault(f"{group.kind}.mean.{score}.latent.{level}", []).append(values)
                if score in RIVALS[:2]:  # retracing comes first; the step says nothing per rollout
                    lead = together[f"{group.kind}.mean.retracing.latent.{level}"][-1] - values
                    together.setdefault(f"{group.kind}.mean.retracing.latent.minus_{score}.{level}", []).append(lead)
        metrics[f"{group.prefix}.num_windows"] = len(group.rows)
    for name, each in together.items():
        metrics |= _interval(np.mean(each, axis=0)).as_metrics(name)
    return metrics


def filter_metrics(arrays: Arrays, resampling: Resampling) -> dict[str, object]:
    """Error of the 5, 10, 25, 50, 100 % of rollouts a score trusts most, over that of a random choice (P Fig. 6).

    `best`: the error itself is the score. `random.<error>`: the mean of all, in the error's own unit.
    """
    errors = rollout_errors(arrays)
    metrics: dict[str, object] = {} if "objects" in errors else {"objects.status": NO_OBJECTS}
    for error, found_E in errors.items():
        metrics[f"random.{error}"] = float(np.nanmean(found_E))
        for score in [name for name in SCORES if name in arrays and name not in NOT_ADDED_UP] + ["best"]:
            values = found_E[:, None] if score == "best" else arrays[score]
            for percent, ratio in filtered(values, found_E, resampling).items():
                metrics |= ratio.as_metrics(f"{score}.{error}.{percent}")
    return metrics


def rollout_errors(arrays: Arrays) -> Arrays:
    """How wrong a rollout is, [E] each: `latent`, the mean over its steps; of its last frame `state`, metres between
    the end effectors, and `objects`, the share of recorded coloured areas that it lost (NaN where there are none).
    """
    errors = {"latent": arrays["error_latent"].mean(axis=1)}
    if "error_state" in arrays:
        errors["state"] = arrays["error_state"][:, -1]
    count, lost = arrays["objects"][:, -1], arrays["objects_lost"][:, -1]
    if lost.any():
        errors["objects"] = np.divide(lost, count, out=np.full(len(count), np.nan), where=count > 0)
    return errors


def conformal_metrics(measured: Measured, others: Sequence[Measured]) -> dict[str, object]:
    """Share of errors below their nine-in-ten bound, and its width, a mean bound over the mean error.

    `own`: calibrated on the other episodes of the same robot; `other_robots`: on those of pre-training, this one left
    out.
    """
    metrics: dict[str, object] = {"nominal": NOMINAL}
    error, episode = measured.main["error_latent"], measured.episode
    for score in (name for name in SCORES if name in measured.main):
        values = measured.main[score]
        bounds = {"own": cross_conformal(values, error, episode)}
        if others and all(score in each.main for each in others):
            bounds["other_robots"] = Calibrated.fit(*_together(others, score)).bound(values)
        for kind, bound in bounds.items():
            found = coverage(bound, error)
            metrics[f"{score}.{kind}.coverage"], metrics[f"{score}.{kind}.width"] = found.share, found.width
            metrics |= {f"{score}.{kind}.by_step.{step + 1}": share for step, share in enumerate(found.share_S)}
    return metrics


def curves(arrays: Arrays, episode: np.ndarray) -> dict[str, np.ndarray]:
    """What the report draws of each score against the latent error: risk by coverage, reliability, filtering."""
    drawn = {"coverage": COVERAGES, "percent": np.array(PERCENT)}
    once = Resampling(np.ones((1, len(episode))))
    for score in (name for name in SCORES if name in arrays):
        values, error = arrays[score], arrays["error_latent"]
        drawn[f"risk.{score}"] = risk_coverage(values, np.where(np.isfinite(values), error, np.nan), COVERAGES)
        found = reliability(out_of_fold(values, error, episode, StepModel.fit), error)
        drawn[f"expected.{score}"], drawn[f"found.{score}"] = found.expected, found.found
        if score in NOT_ADDED_UP:
            continue
        for name, error_E in rollout_errors(arrays).items():
            if kept := filtered(values, error_E, once):
                drawn[f"kept.{name}.{score}"] = np.array([ratio.value for ratio in kept.values()])
    return drawn


def calibration_entry(
    stack: Stack, role: str, measured: Sequence[Measured], config: EvaluateUncertaintyConfig
) -> dict[str, object]:
    """One checkpoint's part of calibration.json: what a score of this model means, fitted on all that was measured."""
    methods = {}
    for score in (name for name in SCORES if measured and all(name in each.main for each in measured)):
        methods[score] = calibration(*_together(measured, score))
    return {
        "role": role,
        "dynamics": config.model,
        "checkpoint": dict(stack.weights[config.model]),
        "error": "tokenizer",
        "distance": config.distance_name,
        "context": config.context,
        "horizon": config.horizon,
        "depths": config.retracing_steps,
        **config.decoding.settings(),
        "methods": methods,
    }


def uncertainty_protocol(
    stack: Stack, dataset: Dataset, split: str, config: EvaluateUncertaintyConfig, mode: Mode, given: str = "context"
) -> str:
    """How these numbers were measured; given: what each frame is imagined from, `context` or `recorded` frames."""
    return protocol(
        "uncertainty",
        model=stack.digests[config.model],
        data=f"{dataset.name}/{split}",
        shards=dataset.shards.digest[:16],
        resolution=stack.tokenizer.config.resolution,
        window=dataset.window,
        context=config.context,
        given=given,
        horizon=config.horizon,
        depths=",".join(map(str, config.retracing_steps)),
        distance=config.distance_name,
        episodes=config.max_episodes,
        windows=config.windows_per_episode,
        starts=config.starts,
        seed=config.seed,
        **config.decoding.by(mode).settings(),
    )


def _agreement(
    arrays: Arrays, levels: dict[str, Statistic], rivals: Sequence[str], resampling: Resampling
) -> dict[str, object]:
    """Correlations of every score with the latent error; and, on the same resamples, retracing's minus its rivals'.

    NaN where a score is constant, as the step's number is within a step.
    """
    metrics: dict[str, object] = {}
    scores = [name for name in SCORES if name in arrays]
    for level, statistic in levels.items():
        found = {score: resampling.values(statistic, arrays[score], arrays["error_latent"]) for score in scores}
        for score, values in found.items():
            metrics |= _interval(values).as_metrics(f"{score}.latent.{level}")
        for rival in rivals:
            lead = _interval(found["retracing"] - found[rival])
            metrics |= lead.as_metrics(f"retracing.latent.minus_{rival}.{level}")
    return metrics


def _decisions(score: np.ndarray, error: np.ndarray, episode: np.ndarray, resampling: Resampling) -> dict[str, object]:
    """What a score is good for: which error is above its step's median, what to keep, what error to expect."""
    expected = out_of_fold(score, error, episode, StepModel.fit)
    return {
        **_interval(resampling.values(auroc_above_step_median, score, error)).as_metrics("auroc"),
        "risk_area": risk_area(score, error),
        "risk_area_calibrated": risk_area(expected, error),
        "risk_at_half_coverage": float(risk_coverage(score, error, np.array([0.5]))[0]),
        "calibration_error": reliability(expected, error).error,
    }


def _interval(values: np.ndarray) -> Interval:
    return Interval.around(float(values[0]), values[1:])


def _together(measured: Sequence[Measured], score: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, errors and episodes of several sets of windows; no two sets share an episode."""
    first = np.cumsum([0, *(each.episode.max() + 1 for each in measured)])
    parts = [(each.main[score], each.main["error_latent"], each.episode + at)
             for each, at in zip(measured, first, strict=False)]  # fmt: skip
    scores, errors, episodes = (np.concatenate(each) for each in zip(*parts, strict=True))
    return scores, errors, episodes


def _summary(metrics: dict[str, object]) -> dict[str, object]:
    """The few numbers to read first, of the decoding of the config against the latent error."""
    levels = {"pooled": "", "within_step": "within_step.", "per_rollout": "per_rollout."}
    asked = {f"{score}_{level}": f"{score}.latent.{prefix}pearson"
             for score in ("retracing", "entropy", "moved") for level, prefix in levels.items()}  # fmt: skip
    asked |= {
        "step_pooled": "step.latent.pearson",
        "retracing_calibration_error": "retracing.latent.calibration_error",
        "retracing_coverage": "conformal.retracing.own.coverage",
        "retracing_width": "conformal.retracing.own.width",
        "retracing_error_of_best_10_percent": "filter.retracing.latent.10",
        "moved_error_of_best_10_percent": "filter.moved.latent.10",
        "psnr_sample_minus_argmax": "decoding.sample_minus_argmax.psnr",
    }
    return {name: metrics[key] for name, key in asked.items() if key in metrics}
