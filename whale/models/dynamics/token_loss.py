"""Cross-entropy against a tied codebook, without ever holding the logits of the whole batch.

A batch of whale-x-base has 262,144 tokens x 2,048 codes: 2 GiB of float logits, as much for their softmax and as much
for the gradient. Here tokens go through in chunks, and a chunk's gradient is taken while its softmax is at hand. On one
CPU core this is also faster than log_softmax, nll_loss, scatter_add and argmax in turn.

Shapes: M tokens of the batch, D width, V codes.
"""

from typing import Any

import torch
from torch import Tensor

from whale.models.trunk.linear import product

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**27}  # logits at a time: 4 MiB of float on a CPU, 512 MiB on a GPU


def tied_cross_entropy(
    features_MD: Tensor,
    codes_VD: Tensor,
    targets_M: Tensor,
    weights_M: Tensor,
    current_M: Tensor | None = None,
    copy_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(sum_m weights_m nll_m, is_hit [M]): logits = features codes^T, plus `copy_bias` on the logit of `current`.

    Differentiable once, in features, codes and copy_bias; a hit is a target whose logit is the largest.
    """
    bias = codes_VD.new_zeros(()) if copy_bias is None else copy_bias
    current = targets_M if current_M is None or copy_bias is None else current_M
    needs_grad = torch.is_grad_enabled() and (features_MD.requires_grad or codes_VD.requires_grad)
    return _TiedCrossEntropy.apply(features_MD, codes_VD, bias, targets_M, weights_M, current, needs_grad)


class _TiedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        codes: Tensor,
        bias: Tensor,
        targets: Tensor,
        weights: Tensor,
        current: Tensor,
        needs_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        is_hit = torch.empty_like(targets, dtype=torch.bool)
        nll = torch.empty(len(targets), dtype=weights.dtype, device=features.device)
        by_features = torch.empty_like(features) if needs_grad else None
        by_codes, by_bias = torch.zeros_like(codes), torch.zeros_like(bias)
        size = max(1, CHUNK_ELEMENTS.get(features.device.type, 2**18) // len(codes))
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            x, target, here = features[part], targets[part, None], current[part, None]
            logits = product(x, codes).to(weights.dtype)
            _add_at(logits, here, bias.to(logits.dtype).expand(here.shape))
            highest, own = logits.amax(1, keepdim=True), logits.gather(1, target)
            is_hit[part] = (own >= highest)[:, 0]
            probs = torch.softmax(logits, 1, out=logits)
            nll[part] = (highest - own - probs.amax(1, keepdim=True).log())[:, 0]  # p of the highest is 1 / sum
            if by_features is None:
                continue
            weight = weights[part, None]
            grad = probs.mul_(weight)  # d loss / d logits = weight (softmax - one-hot)
            _add_at(grad, target, -weight)
            by_bias += grad.gather(1, here).sum()
            grad = grad.to(x.dtype)
            by_features[part] = product(grad, codes.to(x.dtype).T)
            by_codes += grad.T @ x
        if by_features is not None:
            ctx.save_for_backward(by_features, by_codes, by_bias)
        ctx.mark_non_differentiable(is_hit)
        return torch.dot(nll, weights), is_hit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [saved * grads[0].to(saved.dtype) for saved in ctx.saved_tensors]
        return (*scaled, None, None, None, None)


def _add_at(rows_MV: Tensor, place_M1: Tensor, value_M1: Tensor) -> None:
    """Add a value to one place of each row. A GPU that must add in a fixed order would sort all places to do so."""
    if rows_MV.device.type == "cpu":
        rows_MV.scatter_add_(1, place_M1, value_M1)
    else:
        add_by_comparison(rows_MV, place_M1, value_M1)


def add_by_comparison(rows_MV: Tensor, place_M1: Tensor, value_M1: Tensor) -> None:
    """As `scatter_add_` along the columns, for one place a row."""
    is_there_MV = torch.arange(rows_MV.shape[1], device=rows_MV.device) == place_M1
    rows_MV.add_(torch.where(is_there_MV, value_M1, 0))
