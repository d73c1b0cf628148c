"""Video evaluation of one dataset split: tokenizer, dynamics under teacher forcing, rollouts, behavior embedding.

Every function returns flat metrics; the caller prefixes them with the dataset. Numbers carry no timing and no path.
Shapes: S segments, B windows, T window, h horizon, N tokens per frame, V codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from whale.common.config import Config
from whale.evaluation.measuring.feature_networks import NetworkFile
from whale.evaluation.measuring.objects import hue_borders
from whale.evaluation.measuring.roles import chosen_splits
from whale.evaluation.measuring.rollouts.fidelity import (
    changing_pixels,
    copy_last,
    mean_image,
    psnr,
    psnr_of_changing_pixels,
    ssim,
)
from whale.evaluation.measuring.rollouts.heldout import Dataset, Segments, Starts, Windows, read_segments
from whale.evaluation.measuring.rollouts.imagination import predictor
from whale.evaluation.measuring.rollouts.reconstruction import reconstruct, reconstruct_long
from whale.evaluation.measuring.rollouts.stack import Stack
from whale.evaluation.numbers.bootstrap import (
    Interval,
    mean_interval,
    paired_interval,
    ratio_interval,
    unpaired_interval,
)
from whale.evaluation.uncertainty.estimation.decoding import Decoding
from whale.evaluation.video.action_following import Following, action_following, imagined_divergence
from whale.evaluation.video.end_effector import fit_effector_probe
from whale.evaluation.video.likelihood import (
    TokenLikelihood,
    from_other_episode,
    policy_nll,
    prior_log_probs,
    token_likelihood,
)
from whale.evaluation.video.pose_probe import PoseProbe
from whale.evaluation.video.stability import flicker
from whale.evaluation.video.tokens import (
    CopyUnigram,
    accuracy,
    changed_tokens,
    code_counts,
    code_usage,
    fit_copy_unigram,
)
from whale.models.dynamics.dynamics import Dynamics
from whale.models.tokenizer.tokenizer import VideoTokenizer

Metrics = dict[str, float | int | str]
FULL, WITHOUT_Z = "full", "without_z"


class EvaluateVideoConfig(Config):
    """Section `evaluate_video`. Episodes are spread evenly over a split; rollouts start from `context` frames.

    models: entries of train_dynamics and finetune_dynamics that are measured; null: every one that was trained.
    """

    unspoken: ClassVar[frozenset[str]] = frozenset({"models"})
    decoding: Decoding  # how a rollout chooses tokens; `samples` rollouts of each window, which count alike
    starts: Starts

    seed: int
    pretrain_splits: list[str] = Field(min_length=1)
    finetune_splits: list[str]  # none where nothing is fine-tuned
    max_episodes: int = Field(gt=0)
    max_train_episodes: int = Field(gt=0)  # for the mean image and the fitted token baselines
    windows_per_episode: int = Field(gt=0)
    context: int = Field(gt=0)  # given frames of a rollout
    horizons: list[Annotated[int, Field(gt=0)]] = Field(min_length=1)
    filmstrips: int = Field(ge=0)
    resamples: int = Field(ge=100)
    batch_size: int = Field(gt=0)
    action_episodes: int = Field(ge=0)  # for the action-following score; 0 = not measured
    lpips: NetworkFile | None  # weights of the feature networks; null = the metric is unavailable
    i3d: NetworkFile | None
    percep_efflite0: str | None  # path of the converted weights, whose sha256 the code pins
    models: list[str] | None = Field(default=None, min_length=1)

    def splits(self, role: str) -> list[str]:
        """Those that are measured of each dataset of a role; ConfigError for demonstrations without any."""
        return chosen_splits("evaluate_video", role, self.pretrain_splits, self.finetune_splits)


@dataclass(frozen=True)
class Baselines:
    """What a dataset's training split teaches without the models: baselines, and a probe of where the robot is.

    `train`: the segments that the baselines were fitted on, to score the models on what they have seen.
    """

    mean_image: np.ndarray
    tokens: CopyUnigram
    train: Segments
    probe: PoseProbe | None  # None where no state is recorded
    hues: np.ndarray  # where one colour ends and the next begins


def fit_baselines(dataset: Dataset, num_codes: int, config: EvaluateVideoConfig) -> Baselines:
    """Mean image, per-position unigram, copy weight, probe and colours of the `train` split."""
    train = read_segments(dataset, "train", config.max_train_episodes)
    real = np.arange(train.frames.shape[1]) < train.num_frames[:, None]
    tokens = fit_copy_unigram(train.tokens, train.valid, num_codes)
    seen = replace(train, frames=train.frames[:, :0])  # pixels are no longer needed
    frames, probe = train.frames[real], fit_effector_probe(dataset, config.seed)
    return Baselines(mean_image(frames), tokens, seen, probe, hue_borders(frames))


def tokenizer_metrics(
    tokenizer: VideoTokenizer, segments: Segments, baselines: Baselines, config: EvaluateVideoConfig
) -> Metrics:
    """Reconstruction of unpadded frames beside the dataset's mean image, and how the codebook is used."""
    real = np.arange(segments.frames.shape[1]) < segments.num_frames[:, None]
    truth, image = (segments.frames[real], reconstruct(tokenizer, segments.frames, config.batch_size)[real])
    moving = changing_pixels(truth, baselines.mean_image)
    episode = np.repeat(segments.episode, real.sum(axis=1))
    constant = np.broadcast_to(baselines.mean_image, truth.shape)
    score = mean_interval(psnr(truth, image), episode, _rng(config, "tokenizer"), config.resamples)
    floor = float(psnr(truth, constant).mean())
    return {
        **score.as_metrics("psnr"),
        "psnr_mean_image": floor,
        "psnr_above_mean_image": score.value - floor,
        "psnr_changing_pixels": _nanmean(psnr_of_changing_pixels(truth, image, moving)),
        "psnr_changing_pixels_mean_image": _nanmean(psnr_of_changing_pixels(truth, constant, moving)),
        "changing_pixel_share": float(moving.mean()),
        "ssim": float(ssim(truth, image).mean()),
        **flicker_metrics(segments, config),
        **codebook_metrics(used_codes(segments, tokenizer.config.num_codes)),
        "num_frames": len(truth),
    }


def flicker_metrics(segments: Segments, config: EvaluateVideoConfig) -> Metrics:
    """`flicker`: share of the patches that stand still whose token changes all the same, over recorded frames."""
    counted = np.arange(1, segments.frames.shape[1]) < segments.num_frames[:, None]
    changed, still = flicker(segments.tokens, segments.frames, counted)
    share = ratio_interval(changed, still, segments.episode, _rng(config, "flicker"), config.resamples)
    return {
        **share.as_metrics("flicker"),
        "still_share": float(still.sum() / (counted.sum() * segments.tokens.shape[-1])),
    }


def used_codes(segments: Segments, num_codes: int) -> np.ndarray:
    """How often each code stands for a part of an unpadded frame. -> int64 [V]"""
    real = np.arange(segments.frames.shape[1]) < segments.num_frames[:, None]
    return code_counts(segments.tokens[real], num_codes)


def codebook_metrics(counts_V: np.ndarray) -> Metrics:
    """Size and use of the codebook, over whatever the counts were taken of."""
    used, perplexity = code_usage(counts_V)
    return {
        "num_codes": len(counts_V),
        "codes_used": used,
        "codes_used_share": used / len(counts_V),
        "perplexity": perplexity,
    }


def dynamics_metrics(
    stack: Stack, name: str, segments: Segments, baselines: Baselines, config: EvaluateVideoConfig
) -> tuple[Metrics, TokenLikelihood]:
    """Teacher-forced prediction of recorded tokens beside baselines, and the gap to other episodes' actions."""
    dynamics = stack.dynamics[name]
    scored = token_likelihood(dynamics, segments.tokens, segments.actions, segments.z_log_probs, config.batch_size)
    target, changed = (segments.tokens[:, 1:], changed_tokens(segments.tokens, segments.valid))
    frequent = np.broadcast_to(baselines.tokens.most_frequent_N, target.shape)
    nll = _where(segments.valid, scored.nll)
    baseline_nll = _where(segments.valid, baselines.tokens.nll(segments.tokens).mean(-1))
    rng = _rng(config, "dynamics")
    metrics: Metrics = {
        "changed_accuracy": accuracy(scored.prediction, target, changed),
        "changed_accuracy_most_frequent": accuracy(frequent, target, changed),
        "changed_share": float(changed.sum() / (segments.valid.sum() * target.shape[-1])),
        **mean_interval(nll, segments.episode, rng, config.resamples).as_metrics("nll"),
        "nll_copy_unigram": _nanmean(baseline_nll),
        "copy_weight": baselines.tokens.copy_weight,
        **paired_interval(baseline_nll, nll, segments.episode, rng, config.resamples).as_metrics("nll_gain"),
        **train_gap(dynamics, nll, segments, baselines.train, config),
        **shuffled_action_gap(stack, name, segments, scored, config).as_metrics("shuffled_action_gap"),
        "num_transitions": int(segments.valid.sum()),
    }
    return metrics, scored


def train_gap(
    dynamics: Dynamics, nll: np.ndarray, segments: Segments, train: Segments, config: EvaluateVideoConfig
) -> Metrics:
    """`nll_gap`: nll here minus nll on the training split, in nats; above 0 is overfitting, or a harder split."""
    scored = token_likelihood(dynamics, train.tokens, train.actions, train.z_log_probs, config.batch_size)
    seen = _where(train.valid, scored.nll)
    gap = unpaired_interval(nll, segments.episode, seen, train.episode, _rng(config, "gap"), config.resamples)
    return {"nll_train": _nanmean(seen), **gap.as_metrics("nll_gap")}


def shuffled_action_gap(
    stack: Stack, name: str, segments: Segments, scored: TokenLikelihood, config: EvaluateVideoConfig
) -> Interval:
    """nll with the actions of another episode minus nll with the true ones, in nats per token.

    Full segments only, so that no padding is swapped in. z has read the actions, so it is inferred anew from the
    recorded frames and the swapped actions: the gap is the effect of actions on all ways they take. A z with memory is
    inferred from the segment alone on both sides, or the gap would hold what the history before it is worth.
    """
    full = np.flatnonzero(segments.is_full)
    if len(full) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    episode = segments.episode[full]
    actions = segments.actions[full][from_other_episode(episode)]

    def of_segment_alone(taken: np.ndarray) -> np.ndarray:
        z = prior_log_probs(stack.behavior, segments.frames[full], taken, config.batch_size)
        return token_likelihood(stack.dynamics[name], segments.tokens[full], taken, z, config.batch_size).nll

    true = scored.nll[full] if stack.behavior.config.memory is None else of_segment_alone(segments.actions[full])
    return paired_interval(of_segment_alone(actions), true, episode, _rng(config, "actions"), config.resamples)


@dataclass(frozen=True)
class RolloutScores:
    """PSNR per window and step [B, h] of each variant and baseline, and the imagined frames of each variant."""

    psnr: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]


def rollout_scores(stack: Stack, dataset: Dataset, windows: Windows, config: EvaluateVideoConfig) -> RolloutScores:
    """Imagine each window from its given frames with every dynamics; floor: copy-last, ceiling: tokenizer."""
    horizon = windows.frames.shape[1] - 1
    truth = windows.frames[:, 1:]
    ceiling = reconstruct_long(stack.tokenizer, windows.frames, dataset.window, config.batch_size)[:, 1:]
    frames = {"copy_last": copy_last(windows.frames[:, :1], horizon), "tokenizer": ceiling}
    for name in sorted(stack.dynamics):
        predict = predictor(stack.world(name, dataset), config.batch_size, **how_to_imagine(windows, config))
        frames[name] = predict(windows.given, windows.with_earlier(windows.actions), horizon)
    return RolloutScores({name: psnr(truth, image) for name, image in frames.items()}, frames)


def how_to_imagine(windows: Windows, config: EvaluateVideoConfig) -> dict[str, Any]:
    """Arguments of a rollout of these windows, or of the first of them: the decoding, and a seed for each."""
    return config.decoding.how(windows.keys, config.seed)


def rollout_metrics(name: str, scores: RolloutScores, windows: Windows, config: EvaluateVideoConfig) -> Metrics:
    """PSNR and SSIM of frame h for each configured horizon h (not an average over 1..h), beside floor and ceiling.

    `psnr_moving`: over the pixels that moved since the given frame.
    """
    rng, metrics = _rng(config, "rollout"), dict[str, float | int | str]()
    for horizon in config.horizons:
        step, truth = horizon - 1, windows.frames[:, horizon]
        mine, floor = scores.psnr[name][:, step], scores.psnr["copy_last"][:, step]
        at = f"h{horizon}"
        metrics.update(mean_interval(mine, windows.episode, rng, config.resamples).as_metrics(f"{at}.psnr"))
        metrics[f"{at}.psnr_copy_last"] = float(floor.mean())
        if "tokenizer" in scores.psnr:  # another system's frames have none
            metrics[f"{at}.psnr_tokenizer"] = float(scores.psnr["tokenizer"][:, step].mean())
        gain = paired_interval(mine, floor, windows.episode, rng, config.resamples)
        metrics.update(gain.as_metrics(f"{at}.psnr_above_copy_last"))
        metrics[f"{at}.ssim"] = float(ssim(truth, scores.frames[name][:, step]).mean())
        metrics[f"{at}.ssim_copy_last"] = float(ssim(truth, scores.frames["copy_last"][:, step]).mean())
        metrics.update(_moving(name, scores, windows, horizon, config))
    return {**metrics, "num_windows": len(windows)}


def _moving(name: str, scores: RolloutScores, windows: Windows, horizon: int, config: EvaluateVideoConfig) -> Metrics:
    """PSNR over the pixels that differ between the given frame and the recorded one at this horizon."""
    truth, rng = windows.frames[:, horizon], _rng(config, f"moving{horizon}")
    moved = np.stack([changing_pixels(now, given) for now, given in zip(truth, windows.frames[:, 0], strict=True)])
    mine, still = (
        psnr_of_changing_pixels(truth, scores.frames[kind][:, horizon - 1], moved) for kind in (name, "copy_last")
    )
    lead = paired_interval(mine, still, windows.episode, rng, config.resamples)
    return {
        f"h{horizon}.psnr_moving": _nanmean(mine),
        f"h{horizon}.psnr_moving_copy_last": _nanmean(still),
        **lead.as_metrics(f"h{horizon}.psnr_moving_above_copy_last"),
    }


def z_metrics(
    nll: Mapping[str, np.ndarray], scores: RolloutScores, segments: Segments, windows: Windows,
    config: EvaluateVideoConfig,
) -> Metrics:  # fmt: skip
    """What z is worth: full model against the one without z on the same items; positive favours z."""
    rng = _rng(config, "z")
    without, full = (_where(segments.valid, nll[name]) for name in (WITHOUT_Z, FULL))
    gain = paired_interval(without, full, segments.episode, rng, config.resamples)
    metrics: Metrics = {**gain.as_metrics("nll_gain")}
    for horizon in config.horizons:
        left, right = (scores.psnr[name][:, horizon - 1] for name in (FULL, WITHOUT_Z))
        difference = paired_interval(left, right, windows.episode, rng, config.resamples)
        metrics.update(difference.as_metrics(f"h{horizon}.psnr_gain"))
    return metrics


def policy_metrics(stack: Stack, dataset: Dataset, segments: Segments, config: EvaluateVideoConfig) -> Metrics:
    """nll of recorded actions by choice of z, and how much the deployable (lagged) prior gains over each control."""
    keep = segments.valid[:, 0]  # every step must follow a valid one
    nll = policy_nll(
        stack.behavior, segments.frames[keep], segments.actions[keep], ~dataset.normalizer.dead, segments.valid[keep],
        segments.episode[keep], config.batch_size,
    )  # fmt: skip
    episode, rng = segments.episode[keep], _rng(config, "policy")
    metrics: Metrics = {f"nll_{name}": _nanmean(values) for name, values in nll.items()}
    for other in ("zeros", "other_episode"):
        for name in ("lagged_prior", "posterior"):
            gain = paired_interval(nll[other], nll[name], episode, rng, config.resamples)
            metrics.update(gain.as_metrics(f"gain_{name}_over_{other}"))
    return metrics


def action_metrics(
    stack: Stack, dataset: Dataset, segments: Segments, windows: Windows, scores: RolloutScores,
    config: EvaluateVideoConfig,
) -> Metrics:  # fmt: skip
    """Action following of the full model: likelihood of what changed, and divergence of imagined frames."""
    settings = Following(config.action_episodes, config.resamples, config.batch_size, _rng(config, "following"))
    predict = predictor(stack.world(FULL, dataset), config.batch_size, **how_to_imagine(windows, config))
    metrics: Metrics = {**action_following(stack, FULL, dataset, segments, settings)}
    return metrics | imagined_divergence(predict, windows, scores.frames[FULL], config.horizons, settings)


def effector_rng(config: EvaluateVideoConfig) -> np.random.Generator:
    """Of the end effector's intervals: the same for every variant."""
    return _rng(config, "effector")


def groups_rng(config: EvaluateVideoConfig) -> np.random.Generator:
    """Of the intervals by task and policy."""
    return _rng(config, "groups")


def objects_rng(config: EvaluateVideoConfig) -> np.random.Generator:
    """Of the objects' intervals."""
    return _rng(config, "objects")


def perceptual_rng(config: EvaluateVideoConfig) -> np.random.Generator:
    """Of the intervals of percep-efflite0."""
    return _rng(config, "percep_efflite0")


def lead_rng(config: EvaluateVideoConfig) -> np.random.Generator:
    """Of the intervals of what another family is behind: the same episodes for every metric."""
    return _rng(config, "lead")


def _rng(config: EvaluateVideoConfig, stream: str) -> np.random.Generator:
    """One generator per purpose: adding a metric changes no other interval."""
    return np.random.default_rng([config.seed, *stream.encode()])


def _where(valid: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.where(valid, values, np.nan)


def _nanmean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
