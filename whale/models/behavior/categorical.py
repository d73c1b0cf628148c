"""Categorical variables: the behavior embedding z (16 of 16 classes), and what tokens share with it.

z is held as log-probabilities and one-hot samples.
Shapes: ... any leading axes, K categoricals (16), M classes (16), Z = K * M; B rows, N tokens, V codes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def mix_uniform(logits: Tensor, unimix: float) -> Tensor:
    """Log-probabilities of a `1 - unimix` : `unimix` mixture of softmax(logits) and uniform: keeps every KL finite."""
    log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    if unimix == 0:
        return log_probs
    return ((1 - unimix) * log_probs.exp() + unimix / logits.shape[-1]).log()


def kl_divergence(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) in nats, summed over classes and categoricals: [..., K, M] x [..., K, M] -> [...]."""
    return (log_q.exp() * (log_q - log_p)).sum((-1, -2))


def balanced_kl(
    log_q: Tensor, log_p: Tensor, *, to_prior: float = 1.0, to_posterior: float = 0.1, free_nats: float = 1.0
) -> Tensor:
    """KL(q || p) with a weight for each side that learns from it, [...]; below `free_nats` neither does.

    DreamerV3, Eq. 5 (arXiv 2301.04104): p is drawn towards q faster than q towards p, which has to say what it sees.
    """
    for_prior = kl_divergence(log_q.detach(), log_p).clamp_min(free_nats)
    return to_prior * for_prior + to_posterior * kl_divergence(log_q, log_p.detach()).clamp_min(free_nats)


def sample(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """One-hot draw [..., K, M] by inverse CDF from `uniform` [..., K] in [0, 1): no generator, no rank."""
    cumulative = _running_sum(log_probs.exp())
    index = (cumulative < uniform[..., None] * cumulative[..., -1:]).sum(-1).clamp_max(log_probs.shape[-1] - 1)
    return F.one_hot(index, log_probs.shape[-1]).to(log_probs.dtype)


def _running_sum(probs: Tensor) -> Tensor:
    """Along the last axis, in a fixed order, which trainings insist on and torch's cumsum has on the CPU only."""
    if probs.device.type == "cpu":
        return probs.cumsum(-1)
    size = probs.shape[-1]
    return (probs[..., None, :] * probs.new_ones(size, size).tril()).sum(-1)


def token_entropy(logits_BNV: Tensor) -> Tensor:
    """Entropy of the token probabilities at temperature 1, mean over tokens, nats: [B, N, V] -> [B] (P B.3)."""
    log_probs = logits_BNV.to(torch.promote_types(logits_BNV.dtype, torch.float32)).log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1).mean(-1)


def mode(log_probs: Tensor) -> Tensor:
    """The most likely one-hot [..., K, M]; the lowest class wins a tie."""
    return F.one_hot(log_probs.argmax(-1), log_probs.shape[-1]).to(log_probs.dtype)


def straight_through(one_hot: Tensor, log_probs: Tensor) -> Tensor:
    """The value of `one_hot`, the gradient of the probabilities."""
    probs = log_probs.exp()
    return one_hot + probs - probs.detach()


def information(log_probs: Tensor) -> Tensor:
    """Mutual information (nats) of z and what it is inferred from, over a batch: K (usage entropy - mean entropy).

    Entropy of usage alone looks healthy where z is drawn at random: this is 0 there. K ln(M) at most, ln(batch) too.
    """
    own = -(log_probs.exp() * log_probs).sum(-1).mean()
    return log_probs.shape[-2] * (usage_entropy(log_probs) - own)


def usage_entropy(log_probs: Tensor) -> Tensor:
    """Entropy (nats) of the batch-mean distribution, mean over categoricals: near ln(M) if all classes are used."""
    mean = log_probs.exp().flatten(0, -3).mean(0)
    return -(torch.xlogy(mean, mean)).sum(-1).mean()
