"""All video metrics of one dataset split together, each group with its protocol, and the frames the report shows."""

from dataclasses import dataclass

import numpy as np

from whale.evaluation.heldout import Dataset, Windows, read_segments, read_windows
from whale.evaluation.metrics import under
from whale.evaluation.protocol import protocol
from whale.evaluation.stack import Stack
from whale.evaluation.video import (
    FULL,
    WITHOUT_Z,
    Baselines,
    EvaluateVideoConfig,
    RolloutScores,
    dynamics_metrics,
    policy_metrics,
    rollout_metrics,
    rollout_scores,
    tokenizer_metrics,
    used_codes,
    z_metrics,
)


@dataclass(frozen=True)
class SplitResult:
    """`metrics`: flat; `arrays`: recorded and imagined frames of a few windows, and PSNR by step of all.

    `code_counts` [V] add up over splits: datasets that each use half of the codebook may use all of it together.
    """

    metrics: dict[str, object]
    arrays: dict[str, np.ndarray]
    code_counts: np.ndarray


def evaluate_split(
    stack: Stack, dataset: Dataset, split: str, baselines: Baselines, config: EvaluateVideoConfig
) -> SplitResult:
    """Everything model.md 8.1 asks of a split, whatever comes out."""
    segments = read_segments(dataset, split, config.max_episodes)
    windows = read_windows(dataset, split, max(config.horizons) + 1, config.max_episodes, config.windows_per_episode)
    scores = rollout_scores(stack, dataset, windows, config)
    settings = _settings(stack, dataset, split, config)
    metrics = under("tokenizer", tokenizer_metrics(stack.tokenizer, segments, baselines, config))
    metrics["tokenizer.protocol"] = protocol("reconstruction", model=_any_digest(stack), **settings)
    metrics |= under("policy", policy_metrics(stack, dataset, segments, config))
    metrics["policy.protocol"] = protocol("policy_nll", model=_any_digest(stack), z="mode", steps="2..T", **settings)
    nll = {}
    for name, digest in sorted(stack.digests.items()):
        group = f"dynamics.{name}"
        found, scored = dynamics_metrics(stack, name, segments, baselines, config)
        nll[name] = scored.nll
        metrics |= under(group, found) | under(f"{group}.rollout", rollout_metrics(name, scores, windows, config))
        metrics[f"{group}.protocol"] = protocol("teacher_forcing", model=digest, z="mode", **settings)
        metrics[f"{group}.rollout.protocol"] = protocol(
            "rollout", model=digest, context=1, horizons=",".join(map(str, config.horizons)), **settings
        )
    if {FULL, WITHOUT_Z} <= nll.keys():
        metrics |= under("z", z_metrics(nll, scores, segments, windows, config))
        pair = f"{stack.digests[FULL]}-{stack.digests[WITHOUT_Z]}"
        metrics["z.protocol"] = protocol("full_minus_without_z", model=pair, **settings)
    counts = used_codes(segments, stack.tokenizer.config.num_codes)
    return SplitResult(metrics, _arrays(windows, scores, config), counts)


def _settings(stack: Stack, dataset: Dataset, split: str, config: EvaluateVideoConfig) -> dict[str, object]:
    return {
        "data": f"{dataset.name}/{split}",
        "shards": dataset.shards.digest[:16],
        "resolution": stack.tokenizer.config.resolution,
        "window": dataset.window,
        "episodes": config.max_episodes,
        "seed": config.seed,
        "decoding": "argmax",
    }


def _any_digest(stack: Stack) -> str:
    return stack.digests[FULL] if FULL in stack.digests else next(iter(sorted(stack.digests.values())))


def _arrays(windows: Windows, scores: RolloutScores, config: EvaluateVideoConfig) -> dict[str, np.ndarray]:
    """Windows for pictures are spread over the list; PSNR is the mean over all windows, [h]."""
    shown = np.unique(np.linspace(0, len(windows) - 1, config.filmstrips).round().astype(int))
    arrays = {"recorded": windows.frames[shown], "keys": np.array([windows.keys[i] for i in shown])}
    for name, frames in scores.frames.items():
        arrays[f"imagined.{name}"] = frames[shown]
        arrays[f"psnr.{name}"] = scores.psnr[name].mean(axis=0)
    return arrays
