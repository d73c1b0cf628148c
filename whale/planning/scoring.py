"""Seconds of one core that an evaluation takes beside its networks: image metrics, coloured areas, probes, bootstraps.

Constants are seconds of processor time (time.process_time, which leaves waiting out) on one core of two, 2026-12-01,
over 1.5: other programs ran beside it, and a matrix product reached 67 of the 100 GFLOP/s of an idle core. Left out:
reading JPEGs, neighbours, the ridge regression.
Letters: B windows, E episodes, R resamples, h the longest horizon, P pixels of a frame.
"""

from dataclasses import dataclass

from whale.evaluation.uncertainty.measurement import SCORES, EvaluateUncertaintyConfig
from whale.evaluation.uncertainty.report import BESIDE_LATENT, LEVELS
from whale.evaluation.video.pose_probe import BATCH, LARGEST, PASSES, STEPS
from whale.evaluation.video.video import EvaluateVideoConfig

# One step of the end effector's probe, 64 frames of 64 x 64: .054 beside others, yet two probes and all else took the
# demo 108 s.
PROBE_STEP = 0.025
PROBE_READ = 6.0e-8  # a frame that it reads, per pixel
SSIM, PSNR, MOVING = 8.0e-7, 1.0e-8, 5.7e-8  # two frames compared, per pixel; MOVING: where something moves
AREAS = 2.0e-7  # coloured areas of one frame, per pixel; of six colours
INTERVAL, DRAWN = 1.3e-4, 5.5e-8  # one bootstrap, and each episode that a resample of it may draw
STATISTIC, PEARSON = 2.7e-8, 1.6e-9  # per resample, window and step: mean over LEVELS and AUROC; without ranks
FILTERED = 9.0e-8  # per resample and window: the best 5 to 100 %
ERRORS_BESIDE = 2  # others than the latent one, in the rule: pixel and state
LOOKS = 7  # of the probe, a window and horizon: own, recorded, tokenizer; by task and by policy the first two again
INTERVALS = 8  # of a model at a horizon: PSNR, lead, moving, ee and its floor, that of the tokenizer, objects and lead
OF_GROUPS = 6  # likewise, over all tasks and over all policies together: lead, ee, its floor
LIKELIHOODS = 5  # of a model: nll, gain, gap on two splits, shuffled actions
KINDS = 2  # of groups: tasks, policies

# Feature networks, FLOP forward: VGG16 per pixel (15.35 GMAC at 224 x 224), EfficientNet-lite0 per image (0.4 GMAC, at
# 224 x 224 whatever it is given), I3D per frame (108 GMAC for 64 of 224 x 224).
VGG16, EFFLITE0, I3D = 2 * 15.35e9 / 224**2, 2 * 0.4e9, 2 * 108e9 / 64


@dataclass(frozen=True)
class Sizes:
    """Of one split: `frames` of its segments, padded ones too, `resolution` R, `models` whose rollouts are scored."""

    frames: float
    resolution: int
    models: int


def video_seconds(config: EvaluateVideoConfig, of: Sizes) -> float:
    """Of one split, the probe apart."""
    pixels, windows = of.resolution**2, config.max_episodes * config.windows_per_episode * config.decoding.draws
    small = min(of.resolution, LARGEST) ** 2
    at_horizon = windows * (pixels * (2 * SSIM + 2 * MOVING + 6 * AREAS) + LOOKS * small * PROBE_READ)
    at_horizon += intervals(INTERVALS + OF_GROUPS, config.max_episodes, config.resamples)
    whole = windows * max(config.horizons) * pixels * PSNR
    model = len(config.horizons) * at_horizon + whole + intervals(LIKELIHOODS, config.max_episodes, config.resamples)
    recorded = of.frames * pixels * (SSIM + 2 * PSNR + 2 * MOVING) + 2 * whole
    return of.models * model + recorded


def probe_seconds(resolution: int, frames: int | None) -> float:
    """Of one dataset whose states are recorded, of so many frames; None: as many as it takes."""
    steps = STEPS if frames is None else min(STEPS, PASSES * frames // BATCH)
    return steps * PROBE_STEP * min(resolution, LARGEST) ** 2 / LARGEST**2


def network_flops(config: EvaluateVideoConfig, of: Sizes) -> float:
    """Of one split: the feature networks whose weights are given, over every imagined frame."""
    shown = config.max_episodes * config.windows_per_episode * config.decoding.draws * max(config.horizons) * of.models
    total = 2 * shown * of.resolution**2 * VGG16 if config.lpips is not None else 0.0
    total += 4 * shown * EFFLITE0 if config.percep_efflite0 is not None else 0.0  # recorded, own, still, tokenizer
    return total + (2 * shown * I3D if config.i3d is not None else 0.0)


def uncertainty_seconds(config: EvaluateUncertaintyConfig, resolution: int) -> float:
    """Of one split: both decodings, and correlations, which resample all windows and steps."""
    windows = config.max_episodes * config.windows_per_episode
    steps = windows * config.horizon
    areas = 2 * 2 * steps * resolution**2 * AREAS
    ranked = 2 * len(SCORES) * (len(LEVELS) + 1)
    plain = (2 * ERRORS_BESIDE + KINDS) * len(BESIDE_LATENT) * 3  # levels: pooled, within a step, per rollout
    of_steps = steps * (ranked * STATISTIC + plain * PEARSON)
    return areas + config.resamples * (of_steps + windows * (1 + ERRORS_BESIDE) * len(SCORES) * FILTERED)


def intervals(count: int, episodes: int, resamples: int) -> float:
    """Of `count` bootstraps over episodes."""
    return count * (INTERVAL + DRAWN * episodes * resamples)
