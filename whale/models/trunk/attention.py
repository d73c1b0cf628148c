"""Multi-head attention along one axis of [B, T, N, 3 D].

`composite_attention` is written with torch's own operators: GPUs, autocast and compilation take it. Without gradients,
`plain_attention` reads queries, keys and values of a CPU where the projection left them. With gradients, a CPU has a
kernel of its own for short sequences (cpu_kernels.py). All three are the same function.

Shapes: B batch, T frames, N tokens per frame, D width, h heads, d head width, L = N (space) or T (time).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from whale.models.trunk.cpu_kernels import fused_attention
from whale.models.trunk.heads import QK_EPS, Axis, by_sequence, causal_mask, from_sequence, head_product

LONGEST_WRITTEN_OUT = 64  # frames; a fused kernel's tile is longer, most of it would be masked
LONGEST_FUSED = 128  # beyond it the kept probabilities weigh more than what they save


def attend(qkv: Tensor, query_gain: Tensor, key_gain: Tensor, axis: Axis) -> Tensor:
    """Attention within each frame (`space`) or, causally, along time at each place (`time`).

    qkv [B, T, N, 3 D], gains [d] of the RMS-normalised queries and keys -> [B, T, N, D].
    """
    length = qkv.shape[2 if axis == "space" else 1]
    is_plain = qkv.device.type == "cpu" and qkv.dtype == query_gain.dtype and not torch.compiler.is_compiling()
    if is_plain and length <= LONGEST_FUSED:
        attention = fused_attention if torch.is_grad_enabled() else plain_attention
        return attention(qkv, query_gain, key_gain, axis)
    return composite_attention(qkv, query_gain, key_gain, axis)


def composite_attention(qkv: Tensor, query_gain: Tensor, key_gain: Tensor, axis: Axis) -> Tensor:
    """By torch's RMSNorm and scaled_dot_product_attention; QK-norm statistics in the gains' precision."""
    query, key, value = by_sequence(qkv, query_gain.shape[0], axis).unbind(0)
    query, key = _rms_normed(query, query_gain), _rms_normed(key, key_gain)
    if axis == "time" and value.shape[-2] <= LONGEST_WRITTEN_OUT:
        return from_sequence(_mixed_written_out(query, key, value), axis)
    lead = value.shape[:2]  # torch's fused kernels take four axes, and nothing says so when they are passed by
    query, key, value = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=axis == "time")
    return from_sequence(mixed.unflatten(0, lead), axis)


def _mixed_written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention of short windows, with torch's products and softmax."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if scores.shape[-1] > 1:
        scores = scores + causal_mask(scores)
    return scores.softmax(-1).to(value.dtype) @ value


def _rms_normed(x: Tensor, gain: Tensor) -> Tensor:
    return F.rms_norm(x.to(gain.dtype), gain.shape, gain, QK_EPS).to(x.dtype)


def plain_attention(qkv: Tensor, query_gain: Tensor, key_gain: Tensor, axis: Axis) -> Tensor:
    """As `composite_attention`, for inference: no gradients."""
    query, key, value = normalised(qkv, query_gain, key_gain, axis)
    return from_sequence(_mixed(query, key, value, is_causal=axis == "time"), axis)


def attend_to_past(query: Tensor, keys_tBNhd: Tensor, values_tBNhd: Tensor) -> Tensor:
    """Temporal attention of F new frames, query [B, N, h, F, d], to all t frames so far, causally: [B, F, N, D].

    The last F of the t frames are the new ones. For inference: no gradients.
    """
    if query.shape[-2] == 1:
        mixed = mixed_by_sums if query.device.type == "cpu" else mixed_by_kernel
        return mixed(query, keys_tBNhd, values_tBNhd)
    keys, values = (x.permute(1, 2, 3, 0, 4) for x in (keys_tBNhd, values_tBNhd))
    return from_sequence(_mixed(query, keys, values, is_causal=True), "time")


def normalised(qkv: Tensor, query_gain: Tensor, key_gain: Tensor, axis: Axis) -> tuple[Tensor, Tensor, Tensor]:
    """Views [B, T or N, h, L, d] of queries, keys and values, which meet as those of the kernel for CPUs."""
    head_dim = query_gain.shape[0]
    split = qkv.unflatten(-1, (3, -1, head_dim))
    square = torch.linalg.vector_norm(split[..., :2, :, :], dim=-1, keepdim=True).square_()
    # Without d in the mean, keys have length 1 and queries make up for it: a pass less over many small tensors.
    units = (split[..., :2, :, :] * square.add_(head_dim * QK_EPS).rsqrt_()).to(qkv.dtype)
    units[..., 0, :, :].mul_(query_gain * key_gain * math.sqrt(head_dim))
    query, key, value = units[..., 0, :, :], units[..., 1, :, :], split[..., 2, :, :]
    order = (0, 1, 3, 2, 4) if axis == "space" else (0, 2, 3, 1, 4)
    return query.permute(order), key.permute(order), value.permute(order)


def _mixed(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    """Values [..., F, d] as the last F places of a sequence mix them."""
    scores = head_product(query, key.transpose(-1, -2))
    if is_causal and scores.shape[-2] > 1:
        scores += causal_mask(scores)
    return head_product(scores.softmax(-1), value)


def mixed_by_sums(query: Tensor, keys_tBNhd: Tensor, values_tBNhd: Tensor) -> Tensor:
    """What one new frame, query [B, N, h, 1, d], sees: [B, 1, N, D].

    Thousands of products of a vector by a short matrix are slow on a CPU; sums over whole frames are not.
    """
    scores = torch.mul(keys_tBNhd, query[..., 0, :]).sum(-1, keepdim=True)
    return torch.mul(values_tBNhd, scores.softmax(0).to(values_tBNhd.dtype)).sum(0).flatten(-2)[:, None]


def mixed_by_kernel(query: Tensor, keys_tBNhd: Tensor, values_tBNhd: Tensor) -> Tensor:
    """As `mixed_by_sums`, by torch's kernel, which writes out no product: for GPUs."""
    keys, values = (x.permute(1, 2, 3, 0, 4).flatten(0, 1).to(query.dtype) for x in (keys_tBNhd, values_tBNhd))
    mixed = F.scaled_dot_product_attention(query.flatten(0, 1), keys, values, scale=1.0)  # queries are scaled already
    return from_sequence(mixed.unflatten(0, query.shape[:2]), "time")
