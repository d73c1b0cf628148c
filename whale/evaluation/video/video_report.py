"""All video metrics of one dataset split together, each group with its protocol, and the frames the report shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from whale.evaluation.measuring.efflite0 import NAME, WEIGHTS_SHA256
from whale.evaluation.measuring.rollouts.heldout import Dataset, Windows, read_segments, read_windows
from whale.evaluation.measuring.rollouts.imagination import predictor
from whale.evaluation.measuring.rollouts.stack import Stack
from whale.evaluation.numbers.metrics import under
from whale.evaluation.numbers.protocol import protocol
from whale.evaluation.video.controllable import controlled
from whale.evaluation.video.imagined import imagined_metrics
from whale.evaluation.video.perceptual import FeatureNetworks
from whale.evaluation.video.recurrent import Recurrent, imagined_by, recurrent_metrics
from whale.evaluation.video.video import (
    FULL,
    WITHOUT_Z,
    Baselines,
    EvaluateVideoConfig,
    RolloutScores,
    action_metrics,
    dynamics_metrics,
    policy_metrics,
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
    stack: Stack, dataset: Dataset, split: str, baselines: Baselines, networks: FeatureNetworks,
    config: EvaluateVideoConfig, others: Mapping[str, Recurrent] | None = None,
) -> SplitResult:  # fmt: skip
    """Everything that is measured on a split, whatever comes out. `others`: of another family, on the same windows."""
    segments = read_segments(dataset, split, config.max_episodes)
    windows = rollout_windows(dataset, split, config).repeated(config.decoding.draws)
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
        shown = imagined_metrics(name, scores, windows, baselines.probe, baselines.hues, networks, config)
        metrics |= under(group, found) | under(f"{group}.rollout", shown)
        metrics[f"{group}.protocol"] = protocol("teacher_forcing", model=digest, z="mode", **settings)
        drawn_by = config.decoding.settings()
        metrics[f"{group}.rollout.protocol"] = rollout_protocol(dataset, split, windows, config, digest, drawn_by)
        if name == FULL and config.action_episodes:
            metrics |= under(f"{group}.actions", action_metrics(stack, dataset, segments, windows, scores, config))
            metrics[f"{group}.actions.protocol"] = protocol(
                "action_following", model=digest, context=config.context, horizons=_horizons(config), z="inferred anew",
                run_with=config.decoding.settings(), **(settings | {"episodes": config.action_episodes}),
            )  # fmt: skip
    if {FULL, WITHOUT_Z} <= nll.keys():
        metrics |= under("z", z_metrics(nll, scores, segments, windows, config))
        pair = f"{stack.digests[FULL]}-{stack.digests[WITHOUT_Z]}"
        run_with = config.decoding.settings()
        metrics["z.protocol"] = protocol("full_minus_without_z", model=pair, run_with=run_with, **settings)
    arrays = _arrays(windows, scores, config)
    for name, other in (others or {}).items():
        group, drawn_by = f"rssm.{name}", config.decoding.settings()
        own = imagined_by(other, group, dataset, windows, config)
        measured = recurrent_metrics(other, own, group, scores, windows, baselines, networks, config)
        metrics |= under(group, measured)
        metrics[f"{group}.rollout.protocol"] = rollout_protocol(dataset, split, windows, config, other.digest, drawn_by)
        if FULL in stack.digests:
            pair = f"{stack.digests[FULL]}-{other.digest}"
            metrics[f"{group}.full_lead.protocol"] = rollout_protocol(dataset, split, windows, config, pair, drawn_by)
        arrays |= _imagined(group, own, _shown(windows, config))
    counts = used_codes(segments, stack.tokenizer.config.num_codes)
    if FULL in stack.dynamics:
        arrays |= _controlled(stack, dataset, windows, config)
    return SplitResult(metrics, arrays, counts)


def rollout_windows(dataset: Dataset, split: str, config: EvaluateVideoConfig) -> Windows:
    """What is imagined of a split, by whatever system."""
    length = config.context + max(config.horizons)
    windows = read_windows(
        dataset, split, length, config.max_episodes, config.windows_per_episode, config.starts, config.seed
    )
    return windows.behind(config.context)


def rollout_protocol(
    dataset: Dataset, split: str, windows: Windows, config: EvaluateVideoConfig, model: str,
    run_with: Mapping[str, object] | None = None,
) -> str:  # fmt: skip
    """How generated videos are scored, ours or anybody's: nothing here depends on the model but its name.

    run_with: how the model was run, which stands behind its name. percep-efflite0 is named where it was measured alone:
    numbers from before there was one are compared as ever.
    """
    own = {} if config.percep_efflite0 is None else {NAME: WEIGHTS_SHA256[:16]}
    return protocol(
        "rollout",
        model=model,
        run_with=run_with,
        data=f"{dataset.name}/{split}",
        shards=dataset.shards.digest[:16],
        pixels="uint8",
        resolution=windows.frames.shape[-2],
        context=config.context,
        horizons=_horizons(config),
        windows=len(set(key.partition("#")[0] for key in windows.keys)),
        starts=config.starts,
        episodes=config.max_episodes,
        seed=config.seed,
        lpips="none" if config.lpips is None else config.lpips.sha256[:16],
        i3d="none" if config.i3d is None else config.i3d.sha256[:16],
        **own,
    )


def _horizons(config: EvaluateVideoConfig) -> str:
    return ",".join(map(str, config.horizons))


def _settings(stack: Stack, dataset: Dataset, split: str, config: EvaluateVideoConfig) -> dict[str, Any]:
    return {
        "data": f"{dataset.name}/{split}",
        "shards": dataset.shards.digest[:16],
        "resolution": stack.tokenizer.config.resolution,
        "window": dataset.window,
        "episodes": config.max_episodes,
        "seed": config.seed,
    }


def _any_digest(stack: Stack) -> str:
    return stack.digests[FULL] if FULL in stack.digests else next(iter(sorted(stack.digests.values())))


def _controlled(stack: Stack, dataset: Dataset, windows: Windows, config: EvaluateVideoConfig) -> dict[str, np.ndarray]:
    """`controlled.<factor>`: the shown windows imagined with scaled actions (Fig. 8)."""
    shown, horizon = windows.take(_shown(windows, config)), max(config.horizons)
    how = config.decoding.how(shown.keys, config.seed)
    predict = predictor(stack.world(FULL, dataset), config.batch_size, **how)
    found = controlled(predict, shown.given, shown.with_earlier(shown.actions), horizon)
    return {f"controlled.{factor}": frames for factor, frames in found.items()}


def _shown(windows: Windows, config: EvaluateVideoConfig) -> np.ndarray:
    """Windows for pictures are spread over the list."""
    return np.unique(np.linspace(0, len(windows) - 1, config.filmstrips).round().astype(int))


def _arrays(windows: Windows, scores: RolloutScores, config: EvaluateVideoConfig) -> dict[str, np.ndarray]:
    """Frames of the shown windows; PSNR is the mean over all windows, [h]."""
    shown = _shown(windows, config)
    arrays = {"recorded": windows.frames[shown], "keys": np.array([windows.keys[i] for i in shown])}
    for name in scores.frames:
        arrays |= _imagined(name, scores, shown)
    return arrays


def _imagined(name: str, scores: RolloutScores, shown: np.ndarray) -> dict[str, np.ndarray]:
    return {f"imagined.{name}": scores.frames[name][shown], f"psnr.{name}": scores.psnr[name].mean(axis=0)}
