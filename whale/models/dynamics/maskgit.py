"""MaskGIT decoding of a frame's tokens, an ablation of the parallel default.

Genie's order: some tokens of the next frame are revealed, the others predicted; at rollout the most confident ones are
kept and the rest predicted again. Rows keep the alignment of Eq. 6: row h holds the tokens of frame h and, revealed or
not, those of frame h + 1. With nothing revealed it is the parallel model, and the entropy is that first pass's.
Shapes: B batch, T frames, N tokens per frame, V codes.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

MASKED = -1
Again = Callable[[Tensor], Tensor]  # revealed tokens [B, N] of the next frame, MASKED where not -> logits [B, N, V]


def hidden(targets_BTN: Tensor, uniform_B: Tensor) -> Tensor:
    """Which tokens stay masked in a training pass: bool [B, T, N], at least one per frame.

    Each frame draws its share from the cosine schedule, cos(pi u / 2) with u uniform; which tokens is uniform, too.
    `uniform_B` in [0, 1): the sample's own keyed noise, from which all is drawn, so that no rank or resume changes it.
    """
    parts = [_hidden_of_one(targets_BTN.shape[1:], float(value)) for value in uniform_B.double().tolist()]
    return torch.stack(parts).to(targets_BTN.device)


def _hidden_of_one(shape: torch.Size, noise: float) -> Tensor:
    generator = torch.Generator().manual_seed(int(noise * 2**53))
    frames, tokens = shape
    share_T = torch.cos(torch.rand(frames, generator=generator) * math.pi / 2)
    count_T = (share_T * tokens).ceil().clamp(1, tokens)
    rank_TN = torch.rand(frames, tokens, generator=generator).argsort(-1).argsort(-1)
    return rank_TN < count_T[:, None]


def decode(logits_BNV: Tensor, again: Again, passes: int, noise: Tensor | None, temperature: float) -> Tensor:
    """Tokens [B, N] in `passes` passes, of which `logits_BNV` is the first, with nothing revealed.

    After pass s of S, N cos(pi s / (2 S)) tokens, rounded down, are masked again: the least likely of those chosen.
    noise: Gumbel noise [B, N, V], the same in each pass; None for argmax.
    """
    batch, num_tokens, _ = logits_BNV.shape
    revealed = torch.full((batch, num_tokens), MASKED, device=logits_BNV.device)
    for number in range(1, passes + 1):
        drawn = logits_BNV if noise is None else logits_BNV / temperature + noise
        tokens = torch.where(revealed == MASKED, drawn.argmax(-1), revealed)
        if number == passes:
            return tokens
        log_probs = logits_BNV.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        confidence = log_probs.masked_fill(revealed != MASKED, math.inf)
        masked = math.floor(num_tokens * math.cos(math.pi * number / (2 * passes)))
        rank = confidence.argsort(dim=-1, stable=True).argsort(dim=-1)
        revealed = torch.where(rank < masked, MASKED, tokens)
        logits_BNV = again(revealed)
    raise AssertionError("passes >= 1 by configuration")
