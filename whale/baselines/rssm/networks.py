"""What a recurrent state-space model is built of: images to a vector and back, and a gated recurrent step.

As in DreamerV3 (Hafner et al. 2023, arXiv 2301.04104, appendix B): strided convolutions whose channels are normalised
at each place, SiLU, and a GRU whose gates are normalised. Nothing here mixes rows of a batch.

Shapes: ... any leading axes, R resolution, r = R / 2^n after n convolutions, C channels, E width of a vector.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from whale.models.trunk.linear import linear

KERNEL = 4  # of a convolution of stride 2: even, so that each output pixel gets as much as its neighbours


class ConvEncoder(nn.Module):
    """Halves an image once per entry of `channels`; what is left is one vector of `size`."""

    def __init__(self, resolution: int, channels: Sequence[int]):
        super().__init__()
        widths = [3, *channels]
        self.convs = nn.ModuleList(nn.Conv2d(fan_in, fan_out, KERNEL, 2, 1) for fan_in, fan_out in pairwise(widths))
        self.norms = nn.ModuleList(ChannelNorm(width) for width in channels)
        self.size = channels[-1] * side_of(resolution, channels) ** 2

    def forward(self, frames_RRC: Tensor) -> Tensor:
        """Frames in [0, 1] [..., R, R, 3] -> [..., E]."""
        x = frames_RRC.flatten(0, -4).permute(0, 3, 1, 2) - 0.5
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.silu(norm(conv(x)))
        return x.flatten(1).unflatten(0, frames_RRC.shape[:-3])


class ConvDecoder(nn.Module):
    """The way back: a vector, doubled in size once per entry of `channels`, whose order is that of the encoder."""

    def __init__(self, size: int, resolution: int, channels: Sequence[int]):
        super().__init__()
        self.shape = (channels[-1], *2 * (side_of(resolution, channels),))
        widths = [*reversed(channels)]
        self.first = linear(size, channels[-1] * self.shape[1] ** 2, bias=True)
        self.norms = nn.ModuleList(ChannelNorm(width) for width in widths)
        pairs = pairwise([*widths, 3])
        self.convs = nn.ModuleList(nn.ConvTranspose2d(fan_in, fan_out, KERNEL, 2, 1) for fan_in, fan_out in pairs)

    def forward(self, x_E: Tensor) -> Tensor:
        """[..., E] -> logits of pixels [..., R, R, 3]."""
        x = self.first(x_E).flatten(0, -2).unflatten(-1, self.shape)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(F.silu(norm(x)))
        return x.permute(0, 2, 3, 1).unflatten(0, x_E.shape[:-1])

    def start_at_zero(self) -> None:
        """Every logit is zero until something has been learned."""
        last = self.convs[-1]
        assert isinstance(last, nn.ConvTranspose2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each place of [N, C, r, r]."""

    def forward(self, x_NCrr: Tensor) -> Tensor:
        return super().forward(x_NCrr.movedim(1, -1)).movedim(-1, 1)


class Dense(nn.Module):
    """A hidden layer: product, normalisation, SiLU. [..., I] -> [..., O]"""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        self.product, self.norm = linear(fan_in, fan_out), nn.LayerNorm(fan_out)

    def forward(self, x_I: Tensor) -> Tensor:
        return F.silu(self.norm(self.product(x_I)))


class GRUCell(nn.Module):
    """A GRU step with normalised gates; a fresh one mostly keeps its state, for the update gate starts at -1."""

    def __init__(self, fan_in: int, size: int):
        super().__init__()
        self.product, self.norm = linear(fan_in + size, 3 * size), nn.LayerNorm(3 * size)

    def forward(self, x_BI: Tensor, state_BD: Tensor) -> Tensor:
        """Input [B, I] and state [B, D] -> the next state [B, D]."""
        gates = self.norm(self.product(torch.cat([x_BI, state_BD], dim=-1)))
        reset, candidate, update = gates.chunk(3, dim=-1)
        candidate = (reset.sigmoid() * candidate).tanh()
        return state_BD + (update - 1).sigmoid() * (candidate - state_BD)


def side_of(resolution: int, channels: Sequence[int]) -> int:
    """r, what the convolutions leave of an image's side."""
    return resolution // 2 ** len(channels)
