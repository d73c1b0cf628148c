"""What is measured of imagined frames, whoever imagined them: our dynamics, another family, or a foreign system."""

import numpy as np

from whale.evaluation.measuring.groups import groups
from whale.evaluation.measuring.objects import object_metrics
from whale.evaluation.measuring.rollouts.fidelity import copy_last, psnr
from whale.evaluation.measuring.rollouts.heldout import Windows
from whale.evaluation.numbers.bootstrap import paired_interval
from whale.evaluation.numbers.metrics import under
from whale.evaluation.video.end_effector import effector_metrics
from whale.evaluation.video.perceptual import FeatureNetworks, percep_efflite0_metrics, perceptual_metrics
from whale.evaluation.video.pose_probe import PoseProbe
from whale.evaluation.video.video import (
    EvaluateVideoConfig,
    RolloutScores,
    effector_rng,
    groups_rng,
    objects_rng,
    perceptual_rng,
    rollout_metrics,
)


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
        **percep_efflite0_metrics(networks.percep_efflite0, *given, perceptual_rng(config), config.resamples),
        **grouped_metrics(name, scores, windows, probe, config),
    }


def grouped_metrics(
    name: str, scores: RolloutScores, windows: Windows, probe: PoseProbe | None, config: EvaluateVideoConfig
) -> dict[str, object]:
    """Of each task and each policy, `task.<name>.h<n>.`: PSNR above the last given frame's, and `ee`."""
    rng, metrics = groups_rng(config), dict[str, object]()
    for group in groups(windows):
        some, found = windows.take(group.rows), dict[str, object]()
        for horizon in config.horizons:
            mine, floor = (scores.psnr[each][group.rows, horizon - 1] for each in (name, "copy_last"))
            gain = paired_interval(mine, floor, some.episode, rng, config.resamples)
            found |= gain.as_metrics(f"h{horizon}.psnr_above_copy_last")
        imagined = {name: scores.frames[name][group.rows]}
        judged = effector_metrics(probe, imagined, name, some, config.horizons, rng, config.resamples)
        found |= {key: value for key, value in judged.items() if key.split(".")[1:2] == ["ee"]}
        metrics |= under(group.prefix, found | {"num_windows": len(some)})
    return metrics
