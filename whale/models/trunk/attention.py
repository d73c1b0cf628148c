"""Multi-head attention along one axis of [B, T, N, 3 D]: three implementations of the same function.

`composite_attention` is written with torch's own operators: GPUs, autocast and compilation take it. `fused_attention`
is for float32 or float64 on a CPU with short sequences, for which torch's CPU attention is not made: it keeps the
probabilities, writes normalised queries and keys straight into the layout that the batched products want, and gathers
all gradients in one buffer, so that nothing is copied or zero-filled twice. `plain_attention` is the same without
gradients: of a single frame, the products read queries, keys and values where the projection left them.

Shapes: B batch, T frames, N tokens per frame, D width, h heads, d head width, L = N (space) or T (time).
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Axis = Literal["space", "time"]
QK_EPS = 1e-6
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
        scores = scores + _causal_mask(scores)
    return scores.softmax(-1).to(value.dtype) @ value


def _rms_normed(x: Tensor, gain: Tensor) -> Tensor:
    return F.rms_norm(x.to(gain.dtype), gain.shape, gain, QK_EPS).to(x.dtype)


def by_sequence(qkv: Tensor, head_dim: int, axis: Axis) -> Tensor:
    """[B, T, N, 3 D] -> a view [3, B, T or N, h, L, d]: the last two axes are one head's sequence."""
    split = qkv.unflatten(-1, (3, -1, head_dim))
    return split.permute(3, 0, 1, 4, 2, 5) if axis == "space" else split.permute(3, 0, 2, 4, 1, 5)


def from_sequence(mixed: Tensor, axis: Axis) -> Tensor:
    """[B, T or N, h, L, d] -> [B, T, N, D]."""
    return (mixed.transpose(2, 3) if axis == "space" else mixed.permute(0, 3, 1, 2, 4)).flatten(-2)


def fused_attention(qkv: Tensor, query_gain: Tensor, key_gain: Tensor, axis: Axis) -> Tensor:
    """As `composite_attention`, with its own backward pass (not differentiable twice)."""
    return _FusedAttention.apply(qkv, query_gain, key_gain, axis)


def plain_attention(qkv: Tensor, query_gain: Tensor, key_gain: Tensor, axis: Axis) -> Tensor:
    """As `composite_attention`, for inference: no gradients."""
    query, key, value = normalised(qkv, query_gain, key_gain, axis)
    return from_sequence(_mixed(query, key, value, is_causal=axis == "time"), axis)


def attend_to_past(query: Tensor, keys_tBNhd: Tensor, values_tBNhd: Tensor) -> Tensor:
    """Temporal attention of F new frames, query [B, N, h, F, d], to all t frames so far, causally: [B, F, N, D].

    The last F of the t frames are the new ones. For inference: no gradients.
    """
    if query.shape[-2] == 1:
        return _mixed_by_sums(query, keys_tBNhd, values_tBNhd)
    keys, values = (x.permute(1, 2, 3, 0, 4) for x in (keys_tBNhd, values_tBNhd))
    return from_sequence(_mixed(query, keys, values, is_causal=True), "time")


def normalised(qkv: Tensor, query_gain: Tensor, key_gain: Tensor, axis: Axis) -> tuple[Tensor, Tensor, Tensor]:
    """Views [B, T or N, h, L, d] of queries, keys and values, which meet as those of `prepared`."""
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
    scores = _product(query, key.transpose(-1, -2))
    if is_causal and scores.shape[-2] > 1:
        scores += _causal_mask(scores)
    return _product(scores.softmax(-1), value)


def _mixed_by_sums(query: Tensor, keys_tBNhd: Tensor, values_tBNhd: Tensor) -> Tensor:
    """What one new frame, query [B, N, h, 1, d], sees: [B, 1, N, D].

    Thousands of products of a vector by a short matrix are slow on a CPU; sums over whole frames are not.
    """
    scores = torch.mul(keys_tBNhd, query[..., 0, :]).sum(-1, keepdim=True)
    return torch.mul(values_tBNhd, scores.softmax(0).to(values_tBNhd.dtype)).sum(0).flatten(-2)[:, None]


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, query_gain: Tensor, key_gain: Tensor, axis: Axis) -> Tensor:
        unit, query, key, value, rates = prepared(qkv, query_gain, key_gain, axis)
        scores = _product(query, key.transpose(-1, -2))
        if axis == "time" and scores.shape[-1] > 1:
            scores += _causal_mask(scores)
        probs = scores.softmax(-1)
        ctx.save_for_backward(query_gain, key_gain, rates, unit, query, key, value, probs)
        ctx.axis = axis
        return from_sequence(_product(probs, value), axis)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query_gain, key_gain, rates, unit, query, key, value, probs = ctx.saved_tensors
        head_dim = query_gain.shape[0]
        into = grads[0].new_empty(*grads[0].shape[:-1], 3 * grads[0].shape[-1])
        into_parts = by_sequence(into, head_dim, ctx.axis)
        by_head = grads[0].unflatten(-1, (-1, head_dim))
        out = (by_head.transpose(2, 3) if ctx.axis == "space" else by_head.permute(0, 2, 3, 1, 4)).contiguous()
        into_parts[2].copy_(_product(probs.transpose(-1, -2), out))
        by_probs = _product(out, value.transpose(-1, -2))
        by_scores = torch._softmax_backward_data(by_probs, probs, -1, probs.dtype)
        by_query, by_key = _product(by_scores, key), _product(by_scores.transpose(-1, -2), query)
        by_gain = torch.mul(by_query, unit).flatten(0, -2).sum(0) / math.sqrt(head_dim)
        _norm_backward(by_query.mul_(query_gain * key_gain / math.sqrt(head_dim)), unit, rates[0], into_parts[0])
        _norm_backward(by_key, key, rates[1], into_parts[1])
        return into, by_gain * key_gain, by_gain * query_gain, None


def prepared(qkv: Tensor, query_gain: Tensor, key_gain: Tensor, axis: Axis) -> tuple[Tensor, ...]:
    """Queries of RMS 1, queries, keys, values, each contiguous [B, T or N, h, L, d], and the rates [2, ..., 1].

    Queries carry both gains and 1 / sqrt(d), keys have RMS 1: the two meet in products only.
    """
    head_dim = query_gain.shape[0]
    parts = by_sequence(qkv, head_dim, axis)
    rates = by_sequence_rates(qkv, head_dim, axis)
    unit, key, value = (torch.empty(parts.shape[1:], dtype=qkv.dtype, device=qkv.device) for _ in range(3))
    torch.mul(parts[0], rates[0], out=unit)
    torch.mul(parts[1], rates[1], out=key)
    value.copy_(parts[2])
    return unit, unit * (query_gain * key_gain / math.sqrt(head_dim)), key, value, rates


def by_sequence_rates(qkv: Tensor, head_dim: int, axis: Axis) -> Tensor:
    """1 / RMS of every query and key: [2, B, T or N, h, L, 1]."""
    split = qkv.unflatten(-1, (3, -1, head_dim))[..., :2, :, :]
    square = torch.linalg.vector_norm(split, dim=-1, keepdim=True).square_()
    rates = square.div_(head_dim).add_(QK_EPS).rsqrt_()
    return rates.permute(3, 0, 1, 4, 2, 5) if axis == "space" else rates.permute(3, 0, 2, 4, 1, 5)


def _norm_backward(grad: Tensor, unit: Tensor, rates: Tensor, into: Tensor) -> None:
    """into = rates (grad - unit mean(grad unit)): the gradient of x for unit = x rates. Overwrites `grad`."""
    mean = torch.mul(grad, unit).mean(-1, keepdim=True)
    torch.mul(grad.addcmul_(unit, mean, value=-1), rates, out=into)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product per head, over merged leading axes."""
    lead = left.shape[:-2]
    return torch.bmm(left.flatten(0, -3), right.flatten(0, -3)).unflatten(0, lead)


def _causal_mask(scores: Tensor) -> Tensor:
    """[F, L]: -inf where one of the last F of L places would see a later one."""
    num_new, length = scores.shape[-2:]
    full = torch.full((num_new, length), -math.inf, dtype=scores.dtype, device=scores.device)
    return full.triu_(1 + length - num_new)
