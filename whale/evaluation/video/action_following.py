"""Does the model do what it is told: other actions must lead to other frames, and true ones must explain what happened.

Actions are permuted (those of another episode), negated (pose deltas and gripper reversed) or zeroed (no motion, same
gripper), in RAW units; and each dimension is zeroed by itself. Two readings: how much worse the tokens that CHANGED are
explained (nll, teacher forcing, z inferred anew from the altered actions), and how far imagined frames move away.
Shapes: S segments, B windows, T steps, A = 7, h horizon.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from whale.evaluation.measuring.rollouts.fidelity import psnr
from whale.evaluation.measuring.rollouts.heldout import Dataset, Segments, Windows
from whale.evaluation.measuring.rollouts.imagination import Predict
from whale.evaluation.measuring.rollouts.stack import Stack
from whale.evaluation.numbers.bootstrap import mean_interval, paired_interval
from whale.evaluation.video.likelihood import from_other_episode, prior_log_probs, token_likelihood

DIMENSIONS = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
ALTERATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "permuted": lambda raw, episode: raw[from_other_episode(episode)],
    "negated": lambda raw, episode: np.concatenate([-raw[..., :6], 1 - raw[..., 6:]], axis=-1),
    "zeroed": lambda raw, episode: np.concatenate([np.zeros_like(raw[..., :6]), raw[..., 6:]], axis=-1),
}


@dataclass(frozen=True)
class Following:
    """How many episodes take part, and how intervals are drawn."""

    max_episodes: int
    resamples: int
    batch_size: int
    rng: np.random.Generator


def action_following(
    stack: Stack, name: str, dataset: Dataset, segments: Segments, settings: Following
) -> dict[str, float]:
    """Per alteration and per live dimension: `changed_nll_gap` (nats per changed token, with interval).

    `score`: probability that altered actions explain what changed worse than the true ones, a tie counting half, mean
    over the three alterations. 0.5 is a model that does not listen, 1 one that always does. NaN without full segments.
    """
    chosen = _one_segment_per_episode(segments, settings.max_episodes)
    if len(chosen.tokens) < 2:
        return {"score": float("nan"), "num_segments": len(chosen.tokens)}
    raw = dataset.normalizer.denormalize(chosen.actions)

    def changed_nll(actions: np.ndarray) -> np.ndarray:
        z = prior_log_probs(stack.behavior, chosen.frames, actions, settings.batch_size)
        return token_likelihood(stack.dynamics[name], chosen.tokens, actions, z, settings.batch_size).changed_nll

    true = changed_nll(chosen.actions)
    metrics: dict[str, float] = {"changed_nll": float(np.nanmean(true)), "num_segments": len(chosen.tokens)}
    shares = []
    for label, alter in ALTERATIONS.items():
        found = changed_nll(dataset.normalized(alter(raw, chosen.episode)))
        gap = paired_interval(found, true, chosen.episode, settings.rng, settings.resamples)
        metrics |= gap.as_metrics(f"{label}.changed_nll_gap")
        shares.append(_share_worse(found, true))
    for index in np.flatnonzero(~dataset.normalizer.dead):
        without = raw.copy()
        without[..., index] = 0.0
        found = changed_nll(dataset.normalized(without))
        gap = paired_interval(found, true, chosen.episode, settings.rng, settings.resamples)
        metrics |= gap.as_metrics(f"{DIMENSIONS[index]}.changed_nll_gap")
    return metrics | {"score": float(np.mean(shares))}


def imagined_divergence(
    predict: Predict, windows: Windows, followed: np.ndarray, horizons: list[int], settings: Following
) -> dict[str, float]:
    """At each horizon, how far altered actions move the imagined frame from the one of the true actions `followed`.

    `divergence`: mean absolute difference in levels of 255; `psnr_drop`: what the alteration costs against the
    recorded frame, in dB, with interval. Only the first `max_episodes` windows are imagined again; what led through
    the given frames stays as recorded.
    """
    used = windows.take(slice(0, settings.max_episodes))
    frames, actions, episode, followed = used.frames, used.actions, used.episode, followed[: len(used)]
    metrics: dict[str, float] = {}
    if len(frames) < 2:
        return metrics
    for label, alter in ALTERATIONS.items():
        imagined = predict(used.given, used.with_earlier(alter(actions, episode).astype(np.float32)), max(horizons))
        for horizon in horizons:
            other, mine = imagined[:, horizon - 1], followed[:, horizon - 1]
            away = np.abs(other.astype(np.float32) - mine.astype(np.float32)).mean(axis=(1, 2, 3))
            at = f"{label}.h{horizon}"
            metrics |= mean_interval(away, episode, settings.rng, settings.resamples).as_metrics(f"{at}.divergence")
            truth = frames[:, horizon]
            drop = paired_interval(psnr(truth, mine), psnr(truth, other), episode, settings.rng, settings.resamples)
            metrics |= drop.as_metrics(f"{at}.psnr_drop")
    return metrics


def _one_segment_per_episode(segments: Segments, max_episodes: int) -> Segments:
    """The first unpadded segment of each of the first episodes that have one."""
    full = np.flatnonzero(segments.is_full)
    _, first = np.unique(segments.episode[full], return_index=True)
    chosen = full[first][:max_episodes]
    return replace(segments, **{field.name: getattr(segments, field.name)[chosen] for field in fields(segments)})


def _share_worse(altered: np.ndarray, true: np.ndarray) -> float:
    """Share of transitions whose altered nll is higher, ties counted half; without a changed token none counts."""
    counted = np.isfinite(altered) & np.isfinite(true)
    if not counted.any():
        return float("nan")
    left, right = altered[counted], true[counted]
    return float(((left > right) + 0.5 * (left == right)).mean())
