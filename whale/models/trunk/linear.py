"""Products with a weight matrix: torch's own operators, or oneDNN's kernel where it is the faster one.

On a CPU torch hands float32 products to MKL. oneDNN, which torch carries for its compiler, does them in 7 to 20 % less
time on the processors we measured (docs/reference/performance.md), once they are large enough to pay for its longer
way in. Which kernel runs depends on shapes and dtypes alone, so equal inputs still give equal bytes.

Shapes: ... any leading axes, I features in, O features out.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from whale.models.trunk.cpu_kernels import onednn_product

SMALLEST_ONEDNN = 2**23  # multiply-adds; below, the call costs more than the kernel saves


def linear(fan_in: int, fan_out: int, *, bias: bool = False, scale: float = 1.0) -> "Linear":
    """A Linear whose weight is truncated-normal with std `scale` / sqrt(fan_in) and whose bias is zero."""
    layer = Linear(fan_in, fan_out, bias=bias)
    std = scale / math.sqrt(fan_in)
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Linear(nn.Linear):
    """torch's Linear by `product`."""

    def forward(self, x_I: Tensor) -> Tensor:
        return product(x_I, self.weight, self.bias)


def product(x_I: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """[..., I] by [O, I] -> [..., O], as F.linear gives it up to rounding; differentiable once where oneDNN runs."""
    if not _is_for_onednn(x_I, weight_OI):
        return F.linear(x_I, weight_OI, bias_O)
    return onednn_product(x_I, weight_OI, bias_O)


def _is_for_onednn(x: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.numel() * len(weight) < SMALLEST_ONEDNN:
        return False
    is_float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return is_float32 and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
