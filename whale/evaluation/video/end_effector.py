"""Where the robot is in imagined frames: the end effector's error over that of standing still.

A probe reads positions from pixels; truth is the recorded position. Standing still: the recorded position of the last
given frame, kept. The probe's floor is its error on the recorded frames of the same windows and steps; where that is
not far below standing still, the probe cannot judge, and no number gets the name of a result.
Shapes: B windows, h horizon, L = h + 1 frames.
"""

from collections.abc import Mapping

import numpy as np

from whale.evaluation.measuring.motion import position_error
from whale.evaluation.measuring.rollouts.heldout import Dataset, Windows, read_states
from whale.evaluation.numbers.bootstrap import ratio_interval
from whale.evaluation.video.pose_probe import LARGEST, PoseProbe, fit_pose_probe

FRAMES = 20000  # of the training split, at most about this many; the probe errs by what it has not seen
FLOOR = 0.15  # of standing still


def fit_effector_probe(dataset: Dataset, seed: int) -> PoseProbe | None:
    """Fitted on recorded frames of the training split; None where it records no state."""
    episodes = dataset.shards.episodes("train")
    steps = sum(row.num_steps for row in episodes)
    count = max(1, min(len(episodes), round(len(episodes) * FRAMES / max(steps, 1))))
    found = read_states(dataset, "train", count, LARGEST)
    return None if found is None else fit_pose_probe(found[0], found[1][:, :3], seed)


def effector_metrics(
    probe: PoseProbe | None, frames: Mapping[str, np.ndarray], name: str, windows: Windows, horizons: list[int],
    rng: np.random.Generator, resamples: int,
) -> dict[str, object]:  # fmt: skip
    """At each horizon `ee`, the error of variant `name` over that of standing still, with interval; `ee_error` (m).

    `ee_floor`: the probe's own error over that of standing still; `ee_tokenizer`: that of reconstructions. With a
    floor above FLOOR the ratio is called `ee_unjudged`. frames: uint8 [B, h, R, R, 3] each.
    """
    if probe is None or windows.state is None:
        return {"ee_status": "no recorded state"}
    metrics: dict[str, object] = {}
    for horizon in horizons:
        truth = windows.state[:, horizon, :3]
        still = position_error(windows.state[:, 0, :3], truth)
        own = position_error(probe(windows.frames[:, horizon]), truth)
        mine = position_error(probe(frames[name][:, horizon - 1]), truth)
        at = f"h{horizon}"
        floor = ratio_interval(own, still, windows.episode, rng, resamples)
        ratio = ratio_interval(mine, still, windows.episode, rng, resamples)
        can_judge = bool(floor.value <= FLOOR)
        metrics |= ratio.as_metrics(f"{at}.ee" if can_judge else f"{at}.ee_unjudged")
        metrics |= floor.as_metrics(f"{at}.ee_floor")
        metrics |= {f"{at}.ee_error": float(mine.mean()), f"{at}.ee_still": float(still.mean())}
        if "tokenizer" in frames:
            seen = position_error(probe(frames["tokenizer"][:, horizon - 1]), truth)
            metrics[f"{at}.ee_tokenizer"] = ratio_interval(seen, still, windows.episode, rng, resamples).value
        metrics[f"{at}.ee_status"] = "measured" if can_judge else f"probe too weak: floor above {FLOOR}"
    return metrics
