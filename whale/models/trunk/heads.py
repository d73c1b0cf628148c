"""Where one head's sequence lies: layouts, products and the causal mask that every form of attention shares.

Shapes: B batch, T frames, N tokens per frame, D width, h heads, d head width, L = N (space) or T (time).
"""

import math
from typing import Literal

import torch
from torch import Tensor

Axis = Literal["space", "time"]
QK_EPS = 1e-6


def by_sequence(qkv: Tensor, head_dim: int, axis: Axis) -> Tensor:
    """[B, T, N, 3 D] -> a view [3, B, T or N, h, L, d]: the last two axes are one head's sequence."""
    split = qkv.unflatten(-1, (3, -1, head_dim))
    return split.permute(3, 0, 1, 4, 2, 5) if axis == "space" else split.permute(3, 0, 2, 4, 1, 5)


def from_sequence(mixed: Tensor, axis: Axis) -> Tensor:
    """[B, T or N, h, L, d] -> [B, T, N, D]."""
    return (mixed.transpose(2, 3) if axis == "space" else mixed.permute(0, 3, 1, 2, 4)).flatten(-2)


def head_product(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product per head, over merged leading axes."""
    lead = left.shape[:-2]
    return torch.bmm(left.flatten(0, -3), right.flatten(0, -3)).unflatten(0, lead)


def causal_mask(scores: Tensor) -> Tensor:
    """[F, L]: -inf where one of the last F of L places would see a later one."""
    num_new, length = scores.shape[-2:]
    full = torch.full((num_new, length), -math.inf, dtype=scores.dtype, device=scores.device)
    return full.triu_(1 + length - num_new)
