"""A world model of another family beside ours: the same given frames and actions, windows, seeds and metrics.

It predicts pixels, so what is said of the tokenizer's tokens does not apply to it. By how much `full` leads is measured
window by window, with an interval over episodes; above 0 favours ours. What either cost to train stands beside it.
Shapes: B windows, h horizon, R resolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whale.baselines.rssm.rssm import RSSM
from whale.baselines.rssm_world import RSSMWorld
from whale.common.files import WEIGHTS, sha256_of_file
from whale.evaluation.measuring.motion import position_error
from whale.evaluation.measuring.rollouts.fidelity import changing_pixels, psnr, psnr_of_changing_pixels, ssim
from whale.evaluation.measuring.rollouts.heldout import Dataset, Windows
from whale.evaluation.measuring.rollouts.imagination import predictor
from whale.evaluation.measuring.rollouts.stack import Stack
from whale.evaluation.numbers.bootstrap import paired_interval
from whale.evaluation.numbers.metrics import under
from whale.evaluation.video.imagined import imagined_metrics, scored
from whale.evaluation.video.perceptual import FeatureNetworks
from whale.evaluation.video.pose_probe import PoseProbe
from whale.evaluation.video.training_budget import Flops, budget_of_ours, budget_of_rssm
from whale.evaluation.video.video import (
    FULL,
    Baselines,
    EvaluateVideoConfig,
    RolloutScores,
    how_to_imagine,
    lead_rng,
)
from whale.models.world.actions import ActionMap

NO_TOKENS = "not applicable: it predicts pixels, not the tokenizer's tokens"


@dataclass(frozen=True)
class Recurrent:
    """One entry of train_rssm: its model, the first 16 digits of its weights' sha256, and what it cost to train.

    `budget`: also, as `full_`..., what tokenizer, behavior model and the dynamics `full` did together.
    """

    model: RSSM
    digest: str
    budget: Mapping[str, object]


def load_recurrent(models: Path, stack: Stack, window: int, flops: Flops) -> dict[str, Recurrent]:
    """Every `<models>/rssm/<name>` by name, where `stack` lies; none where no such model was trained.

    window: T of the segments that all were trained on. flops: counts what a training step of them costs.
    """
    files = sorted((models / "rssm").glob(f"*/{WEIGHTS}"))
    ours = budget_of_ours(models, stack, FULL, window, flops) if files and FULL in stack.dynamics else None
    beside = {} if ours is None else ours.as_metrics(f"{FULL}_")
    found = {}
    for path in files:
        model = RSSM.restore(path.parent, stack.tokenizer.device)
        budget = budget_of_rssm(path.parent, model, window, flops).as_metrics() | beside
        found[path.parent.name] = Recurrent(model, sha256_of_file(path)[:16], budget)
    return found


def imagined_by(
    recurrent: Recurrent, name: str, dataset: Dataset, windows: Windows, config: EvaluateVideoConfig
) -> RolloutScores:
    """Frames after the given ones, by the recorded actions, under `name`; latents are chosen as tokens are."""
    world = RSSMWorld(recurrent.model, dataset.window, ActionMap.of(dataset.normalizer))
    predict = predictor(world, config.batch_size, **how_to_imagine(windows, config))
    frames = predict(windows.given, windows.with_earlier(windows.actions), windows.frames.shape[1] - 1)
    return scored(name, frames, windows)


def recurrent_metrics(
    recurrent: Recurrent, own: RolloutScores, name: str, ours: RolloutScores, windows: Windows, baselines: Baselines,
    networks: FeatureNetworks, config: EvaluateVideoConfig,
) -> dict[str, object]:  # fmt: skip
    """`rollout.`..., as of our dynamics; `full_lead.`..., by how much `full` is better; `budget.`..., `tokens.status`.

    `own`: its frames, under `name`; `ours`: our rollouts of the same windows. Without `full` among them there is no
    lead.
    """
    found = imagined_metrics(name, own, windows, baselines.probe, baselines.hues, networks, config)
    metrics = {"tokens.status": NO_TOKENS, **under("budget", recurrent.budget), **under("rollout", found)}
    if FULL in ours.frames:
        judged = {horizon for horizon in config.horizons if f"h{horizon}.ee" in found}
        metrics |= under("full_lead", _lead(ours.frames[FULL], own.frames[name], windows, baselines, judged, config))
    return metrics


def _lead(
    ours: np.ndarray, theirs: np.ndarray, windows: Windows, baselines: Baselines, judged: set[int],
    config: EvaluateVideoConfig,
) -> dict[str, object]:  # fmt: skip
    """Paired differences at each horizon: `psnr`, `psnr_moving` (dB), `ssim`; `ee` (m) where the probe can judge."""
    metrics: dict[str, object] = {}
    for horizon in config.horizons:
        probe = baselines.probe if horizon in judged else None
        scores = (_by_window(frames[:, horizon - 1], windows, probe, horizon) for frames in (ours, theirs))
        mine, other = scores
        for kind in mine:
            lead = paired_interval(mine[kind], other[kind], windows.episode, lead_rng(config), config.resamples)
            metrics |= lead.as_metrics(f"h{horizon}.{kind}")
    return metrics


def _by_window(frames: np.ndarray, windows: Windows, probe: PoseProbe | None, horizon: int) -> dict[str, np.ndarray]:
    """Scores [B] of imagined frames uint8 [B, R, R, 3] of one step; larger is better."""
    truth = windows.frames[:, horizon]
    moved = np.stack([changing_pixels(now, given) for now, given in zip(truth, windows.frames[:, 0], strict=True)])
    found = {
        "psnr": psnr(truth, frames),
        "psnr_moving": psnr_of_changing_pixels(truth, frames, moved),
        "ssim": ssim(truth, frames),
    }
    if probe is not None and windows.state is not None:
        found["ee"] = -position_error(probe(frames), windows.state[:, horizon, :3])
    return found
