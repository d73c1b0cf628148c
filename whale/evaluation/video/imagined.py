"""What is measured of imagined frames, whoever imagined them: our dynamics, another family, or a foreign system."""

import numpy as np

from whale.evaluation.measuring.fidelity import copy_last, psnr
from whale.evaluation.measuring.heldout import Windows
from whale.evaluation.measuring.objects import object_metrics
from whale.evaluation.video.end_effector import effector_metrics
from whale.evaluation.video.perceptual import FeatureNetworks, perceptual_metrics
from whale.evaluation.video.pose_probe import PoseProbe
from whale.evaluation.video.video import EvaluateVideoConfig, RolloutScores, effector_rng, objects_rng, rollout_metrics


def scored(name: str, frames: np.ndarray, windows: Windows) -> RolloutScores:
    """`frames` uint8 [B, h, R, R, 3] of a system without our tokenizer, beside the last given frame copied."""
    truth = windows.frames[:, 1:]
    shown = {name: frames, "copy_last": copy_last(windows.frames[:, :1], truth.shape[1])}
    return RolloutScores({kind: psnr(truth, image) for kind, image in shown.items()}, shown)


def imagined_metrics(
    name: str, scores: RolloutScores, windows: Windows, probe: PoseProbe | None, hues: np.ndarray,
    networks: FeatureNetworks, config: EvaluateVideoConfig,
) -> dict[str, object]:  # fmt: skip
    """The keys of a `rollout` group but its protocol, of the frames that `scores` holds under `name`."""
    given = (scores.frames, name, windows, config.horizons)
    return {
        **rollout_metrics(name, scores, windows, config),
        **effector_metrics(probe, *given, effector_rng(config), config.resamples),
        **object_metrics(hues, *given, objects_rng(config), config.resamples),
        **perceptual_metrics(networks, windows.frames[:, 1:], scores.frames[name]),
    }
