"""Means over what is valid, segment by segment."""

import torch
from torch import Tensor


def mean_over_valid(value_BT: Tensor, valid_BT: Tensor) -> Tensor:
    """Mean over each segment's valid steps, then over segments: a scalar.

    The mean of means does not depend on how a global batch is split over workers, a pooled mean would: segments are
    spread evenly, valid steps are not. A segment without a valid step counts as 0.
    """
    valid = valid_BT.to(value_BT.dtype)
    return ((value_BT * valid).sum(1) / valid.sum(1).clamp_min(1)).mean()


def mean_weights(valid_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights [B, T] whose weighted sum is `mean_over_valid`, for a loss that wants them beforehand."""
    valid = valid_BT.to(dtype)
    return valid / (valid.sum(1, keepdim=True).clamp_min(1) * len(valid))
