"""What the networks say about recorded data under teacher forcing: nll of tokens and of actions.

Shapes: S segments, T transitions, N tokens per frame, A action size, K = M = 16 (z), Z = K * M.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whale.models.behavior.behavior import BehaviorModel, gaussian_nll
from whale.models.behavior.categorical import mode
from whale.models.dynamics.dynamics import Dynamics


@dataclass(frozen=True)
class TokenLikelihood:
    """`nll` float64 [S, T]: mean over the N tokens, nats; `prediction` int64 [S, T, N]: the most likely codes.

    `changed_nll` float64 [S, T]: mean over the tokens that differ from the frame before; NaN where none does.
    """

    nll: np.ndarray
    prediction: np.ndarray
    changed_nll: np.ndarray


@torch.inference_mode()
def token_likelihood(
    dynamics: Dynamics, tokens: np.ndarray, actions: np.ndarray, z_log_probs: np.ndarray, batch_size: int
) -> TokenLikelihood:
    """Score recorded next tokens, z being what a rollout takes of `z_log_probs`."""
    nll, prediction, changed_nll = [], [], []
    for part in _batches(len(tokens), batch_size):
        tokens_BTN = dynamics.placed(tokens[part])
        z_BTZ = dynamics.inferred_z(dynamics.placed(z_log_probs[part]))
        logits = dynamics.logits(tokens_BTN[:, :-1], dynamics.placed(actions[part]), z_BTZ).float()
        target = logits.gather(-1, tokens_BTN[:, 1:, :, None])[..., 0]
        nll_BTN = (logits.logsumexp(-1) - target).double()
        changed_BTN = tokens_BTN[:, 1:] != tokens_BTN[:, :-1]
        nll.append(nll_BTN.mean(-1).cpu().numpy())
        changed_nll.append(((nll_BTN * changed_BTN).sum(-1) / changed_BTN.sum(-1)).cpu().numpy())
        prediction.append(logits.argmax(-1).cpu().numpy())
    return TokenLikelihood(np.concatenate(nll), np.concatenate(prediction), np.concatenate(changed_nll))


@torch.inference_mode()
def prior_log_probs(behavior: BehaviorModel, frames: np.ndarray, actions: np.ndarray, batch_size: int) -> np.ndarray:
    """log p(z | tau_h) float32 [S, T, K, M] of uint8 frames [S, T+1, R, R, 3] and normalised actions [S, T, A]."""
    parts = [
        behavior.prior_log_probs(behavior.pixels(frames[part, :-1]), behavior.placed(actions[part])).cpu().numpy()
        for part in _batches(len(frames), batch_size)
    ]
    return np.concatenate(parts)


def from_other_episode(episode: np.ndarray) -> np.ndarray:
    """For every segment the index of a segment of ANOTHER episode, each used once: rotate by half the list.

    Segments are sorted by episode, so no episode with at most half of the segments meets itself.
    """
    return np.roll(np.arange(len(episode)), len(episode) // 2)


@torch.inference_mode()
def policy_nll(
    behavior: BehaviorModel, frames: np.ndarray, actions: np.ndarray, mask_A: np.ndarray, valid: np.ndarray,
    episode: np.ndarray, batch_size: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """nll of the recorded a_h, h >= 2, in nats per step, under four choices of z: float64 [S, T-1], NaN if invalid.

    lagged_prior: z = mode p(.|tau_{h-1}); p(.|tau_h) has read a_h already and would be a leak.
    posterior: the whole segment's z (an oracle). other_episode: the posterior's z of another episode. zeros: no z.
    """
    parts, num_steps = _batches(max(len(actions), 1), batch_size), valid.sum(axis=1)

    def inputs(part: slice) -> tuple[Tensor, Tensor]:
        return behavior.pixels(frames[part, :-1]), behavior.placed(actions[part])

    log_probs = [behavior.posterior_log_probs(*inputs(part), behavior.placed(num_steps[part])) for part in parts]
    z_SZ = mode(torch.cat(log_probs)).flatten(1)
    other_SZ = z_SZ[behavior.placed(from_other_episode(episode))]
    scores: dict[str, list[np.ndarray]] = {}
    for part in parts:
        frames_B, actions_B = inputs(part)
        given = (behavior, frames_B, actions_B, behavior.placed(mask_A).expand(len(actions_B), -1))
        lagged = mode(behavior.prior_log_probs(frames_B, actions_B)).flatten(2)
        found = {
            "lagged_prior": _lagged_nll(*given, lagged),
            "posterior": _nll(*given, z_SZ[part])[:, 1:],
            "other_episode": _nll(*given, other_SZ[part])[:, 1:],
            "zeros": _nll(*given, torch.zeros_like(z_SZ[part]))[:, 1:],
        }
        for name, score in found.items():
            scores.setdefault(name, []).append(score.double().cpu().numpy())
    return {name: np.where(valid[:, 1:], np.concatenate(each), np.nan) for name, each in scores.items()}


def _lagged_nll(behavior: BehaviorModel, frames: Tensor, actions: Tensor, mask: Tensor, z_STZ: Tensor) -> Tensor:
    """The policy takes one z per segment, so step h gets a pass of its own over o_1..o_h with z_{h-1}."""
    steps = [
        _nll(behavior, frames[:, : step + 1], actions[:, : step + 1], mask, z_STZ[:, step - 1])[:, -1]
        for step in range(1, actions.shape[1])
    ]
    return torch.stack(steps, dim=1)


def _nll(behavior: BehaviorModel, frames: Tensor, actions: Tensor, mask: Tensor, z: Tensor) -> Tensor:
    mean, log_std = behavior.policy(frames, actions, z)
    return gaussian_nll(actions, mean, log_std, mask)


def _batches(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]
