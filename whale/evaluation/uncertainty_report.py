"""Does uncertainty know where the model is wrong: retracing and entropy against the true error of a rollout.

model.md 8.3: unseen episodes, c context frames, h imagined ones; per (sequence, step) the error is the distance between
the recorded and the imagined frame. Shapes: B windows, c context, h horizon, L = c + h frames, A action size.
"""

from collections.abc import Callable

import numpy as np
from pydantic import Field

from whale.config import Config
from whale.errors import ConfigError
from whale.evaluation.bootstrap import statistic_interval
from whale.evaluation.correlation import auroc, pearson, risk_coverage, spearman, worst_share
from whale.evaluation.fidelity import psnr, squared_error
from whale.evaluation.heldout import Dataset, Windows, normalized
from whale.evaluation.imagination import latent_distance, predictor
from whale.evaluation.protocol import protocol
from whale.evaluation.stack import Stack
from whale.evaluation.uncertainty import Distance, Predict, retracing_uncertainty, window_bounds

COVERAGES = np.linspace(0.1, 1.0, 10)


class EvaluateUncertaintyConfig(Config):
    """Section `evaluate_uncertainty`; `model` names the dynamics variant that is examined."""

    seed: int
    model: str
    pretrain_splits: list[str] = Field(min_length=1)
    finetune_splits: list[str] = Field(min_length=1)
    max_episodes: int = Field(gt=0)
    context: int = Field(gt=0)
    horizon: int = Field(gt=0)
    retracing_steps: list[int] = Field(min_length=1)
    filmstrips: int = Field(ge=0)
    resamples: int = Field(ge=100)
    batch_size: int = Field(gt=0)


def require_depths_fit(config: EvaluateUncertaintyConfig, window: int) -> None:
    """model.md 7.1: c >= max K + 1, and max K <= T/2 - 1 once a rollout restarts its window; else ConfigError."""
    restarts = config.context + config.horizon - 1 > window
    limit = min(config.context, window // 2 if restarts else config.context) - 1
    if max(config.retracing_steps) > limit or min(config.retracing_steps) < 1 or config.context > window:
        raise ConfigError(
            "retracing depths do not fit into the history",
            place="evaluate_uncertainty.retracing_steps",
            found=f"{config.retracing_steps} with context {config.context}, window {window}",
            expected=f"depths of 1 to {limit}, context of at most {window}",
        )


def uncertainty_arrays(
    stack: Stack, dataset: Dataset, windows: Windows, config: EvaluateUncertaintyConfig
) -> dict[str, np.ndarray]:
    """Imagine every window and measure, per (sequence, step) [B, h]: retracing, disagreement, entropy, and two errors.

    Also `imagined` uint8 [B, h, R, R, 3].
    """
    world = stack.world(config.model, dataset.window)
    predict = predictor(world, lambda raw: normalized(dataset, raw), config.batch_size)
    distance = latent_distance(stack.tokenizer)
    context, truth = (windows.frames[:, : config.context], windows.frames[:, config.context :])
    imagined = predict(context, windows.actions, config.horizon).frames
    seen = np.concatenate([context, imagined], axis=1)
    arrays = _along_rollout(predict, distance, seen, windows.actions, config, dataset.window)
    flat = (-1, *truth.shape[2:])
    arrays["error_latent"] = distance(truth.reshape(flat), imagined.reshape(flat)).reshape(truth.shape[:2])
    arrays["error_pixel"] = squared_error(truth, imagined)
    arrays["psnr"] = psnr(truth, imagined)
    return {**arrays, "imagined": imagined}


def uncertainty_metrics(arrays: dict[str, np.ndarray], config: EvaluateUncertaintyConfig) -> dict[str, object]:
    """Correlations with bootstrap intervals over sequences, AUROC, and the risk at half coverage."""
    metrics: dict[str, object] = {}
    for score in ("retracing", "disagreement", "entropy"):
        values = arrays[score]
        defined = np.isfinite(values)
        for error_name in ("latent", "pixel"):
            error = np.where(defined, arrays[f"error_{error_name}"], np.nan)
            metrics.update(_agreement(f"{score}.{error_name}", values, error, config))
        metrics[f"{score}.mean"] = float(values[defined].mean()) if defined.any() else float("nan")
        metrics[f"{score}.undefined"] = int((~defined).sum())
    metrics["psnr"] = float(arrays["psnr"].mean())
    metrics["num_sequences"], metrics["num_pairs"] = (len(arrays["psnr"]), int(arrays["psnr"].size))
    return metrics


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
        distance="tokenizer",
        episodes=config.max_episodes,
        seed=config.seed,
    )


def _along_rollout(
    predict: Predict, distance: Distance, seen: np.ndarray, actions: np.ndarray, config: EvaluateUncertaintyConfig,
    window: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """U before each imagined frame, from the history the rollout holds then. Steps of equal history are one batch."""
    bounds = window_bounds(config.context, config.horizon, window)
    shape = (len(seen), config.horizon)
    arrays = {name: np.full(shape, np.nan) for name in ("retracing", "disagreement", "entropy")}
    for length in sorted({stop - start for start, stop in bounds}):
        steps = [step for step, (start, stop) in enumerate(bounds) if stop - start == length]
        frames = np.concatenate([seen[:, slice(*bounds[step])] for step in steps])
        taken = np.concatenate([actions[:, slice(*bounds[step])] for step in steps])
        found = retracing_uncertainty(predict, distance, frames, taken, config.retracing_steps)
        for name, array in arrays.items():
            array[:, steps] = getattr(found, name).reshape(len(steps), len(seen)).T
    return arrays


def _agreement(name: str, score: np.ndarray, error: np.ndarray, config: EvaluateUncertaintyConfig) -> dict[str, object]:
    statistics: dict[str, Callable[..., float]] = {"pearson": pearson, "spearman": spearman}
    metrics: dict[str, object] = {}
    for label, statistic in statistics.items():
        rng = np.random.default_rng([config.seed, *f"{name}.{label}".encode()])
        metrics.update(
            statistic_interval(statistic, (score, error), rng, config.resamples).as_metrics(f"{name}.{label}")
        )
    metrics[f"{name}.auroc_worst_quartile"] = auroc(score, worst_share(error, 0.25))
    metrics[f"{name}.auroc_above_median"] = auroc(score, worst_share(error, 0.5))
    metrics[f"{name}.risk_at_half_coverage"] = float(risk_coverage(score, error, np.array([0.5]))[0])
    metrics[f"{name}.mean_risk"] = float(np.nanmean(error))
    return metrics
