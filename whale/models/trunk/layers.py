"""The building blocks of every trunk: attention with QK-norm, the MLP, fixed positions, patches.

Shapes: B batch, T frames, D width, H image height and width, C channels, P patch size, N patches.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from whale.models.trunk.attention import attend, attend_to_past, normalised
from whale.models.trunk.heads import QK_EPS, Axis
from whale.models.trunk.linear import linear


class SelfAttention(nn.Module):
    """Multi-head attention along one axis, queries and keys RMS-normalised (QK-norm, as Genie), no biases.

    `axis`: among the tokens of a frame (`space`), or causally among the frames at one place (`time`).
    """

    def __init__(self, d_model: int, num_heads: int, axis: Axis, *, out_scale: float = 1.0):
        super().__init__()
        self.axis: Axis = axis
        head_dim = d_model // num_heads
        self.qkv = linear(d_model, 3 * d_model)
        self.query_norm, self.key_norm = nn.RMSNorm(head_dim, eps=QK_EPS), nn.RMSNorm(head_dim, eps=QK_EPS)
        self.out = linear(d_model, d_model, scale=out_scale)

    def forward(self, x_BTND: Tensor) -> Tensor:
        return self.out(attend(self.qkv(x_BTND), self.query_norm.weight, self.key_norm.weight, self.axis))

    def ask(self, x_BFND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of F new frames: queries [B, N, h, F, d], keys and values [F, B, N, h, d] as a cache keeps them."""
        qkv = self.qkv(x_BFND)
        query_gain, key_gain = self.query_norm.weight.to(qkv.dtype), self.key_norm.weight.to(qkv.dtype)
        query, key, value = normalised(qkv, query_gain, key_gain, self.axis)
        return query, key.permute(3, 0, 1, 2, 4), value.permute(3, 0, 1, 2, 4)

    def answer(self, query: Tensor, keys_tBNhd: Tensor, values_tBNhd: Tensor) -> Tensor:
        """What F new frames take from all t frames so far, themselves among them: [B, F, N, D]."""
        return self.out(attend_to_past(query, keys_tBNhd, values_tBNhd))


class MLP(nn.Module):
    """D -> 4 D -> D with exact GELU, no biases."""

    def __init__(self, d_model: int, *, out_scale: float = 1.0):
        super().__init__()
        self.up, self.down = linear(d_model, 4 * d_model), linear(4 * d_model, d_model, scale=out_scale)

    def forward(self, x_D: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x_D)))


def sinusoids(length: int, width: int) -> Tensor:
    """Fixed positions [length, width]: sines in the first half, cosines in the second, base 1.0e4."""
    rates = torch.exp(torch.arange(width // 2) * (-math.log(1.0e4) / max(width // 2, 1)))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def space_time_positions(num_frames: int, num_tokens: int, d_model: int) -> Tensor:
    """[T, N, D]: the frame's place in the window plus the token's row (half of D) and column (half of D)."""
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise ValueError(f"{num_tokens} tokens per frame are not a square grid")
    axis = sinusoids(side, d_model // 2)
    rows, columns = axis[:, None].expand(side, side, -1), axis[None].expand(side, side, -1)
    space_ND = torch.cat([rows, columns], dim=-1).reshape(num_tokens, d_model)
    return sinusoids(num_frames, d_model)[:, None] + space_ND


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """[..., H, H, C] -> [..., N, P*P*C], row by row."""
    *lead, height, width, channels = images.shape
    grid = images.reshape(*lead, height // patch_size, patch_size, width // patch_size, patch_size, channels)
    grid = grid.transpose(-4, -3)
    return grid.reshape(*lead, -1, patch_size * patch_size * channels)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """The inverse of `patchify` for square RGB images."""
    *lead, num_patches, _ = patches.shape
    side = math.isqrt(num_patches)
    grid = patches.reshape(*lead, side, side, patch_size, patch_size, 3).transpose(-4, -3)
    return grid.reshape(*lead, side * patch_size, side * patch_size, 3)
