"""Space-time transformer: attend within a frame, then along time, then mix channels.

Genie 2.1 with the reading of the WHALE tables that fits the paper's parameter counts: `num_layers` counts attention
layers, spatial and temporal alternate, one MLP per pair. Parameters: (L/2)(16 D^2 + 6 D + 4 D/h) + 2 D.

Shapes: B batch, T frames, N tokens per frame, D model width.
"""

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from whale.common.config import Config
from whale.common.errors import BadDataError
from whale.common.limits import HIDDEN_BYTES
from whale.models.trunk.cache import KeyValues, TemporalCache
from whale.models.trunk.layers import MLP, SelfAttention, sinusoids, space_time_positions


class STTransformerConfig(Config):
    """Size of a trunk, as a row of Tables 5 to 7."""

    num_layers: int = Field(gt=0)
    num_heads: int = Field(gt=0)
    d_model: int = Field(gt=0)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.num_layers % 2:
            raise ValueError(f"num_layers must be even (spatial and temporal alternate), found {self.num_layers}")
        if self.d_model % self.num_heads or self.d_model % 4:
            raise ValueError(f"d_model must be a multiple of num_heads and of 4, found {self.d_model}")
        return self


class STBlock(nn.Module):
    """One round of spatial attention, causal temporal attention and MLP, each residual."""

    def __init__(self, d_model: int, num_heads: int, out_scale: float):
        super().__init__()
        self.spatial_norm = nn.LayerNorm(d_model)
        self.spatial = SelfAttention(d_model, num_heads, "space", out_scale=out_scale)
        self.temporal_norm = nn.LayerNorm(d_model)
        self.temporal = SelfAttention(d_model, num_heads, "time", out_scale=out_scale)
        self.mlp_norm, self.mlp = nn.LayerNorm(d_model), MLP(d_model, out_scale=out_scale)

    def forward(self, x_BTND: Tensor) -> Tensor:
        x_BTND = x_BTND + self.spatial(self.spatial_norm(x_BTND))
        x_BTND = x_BTND + self.temporal(self.temporal_norm(x_BTND))
        return x_BTND + self.mlp(self.mlp_norm(x_BTND))

    def extend(self, x_BFND: Tensor, past: KeyValues) -> tuple[Tensor, KeyValues]:
        """As `forward` for the F frames that follow those in `past`."""
        x_BFND, query, key, value = self.before_past(x_BFND)
        present = past.extended(key, value)
        return self.after_past(x_BFND, query, present.keys, present.values), present

    def before_past(self, x_BFND: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The part of `extend` that needs no other frame: spatial attention, then queries, keys and values in time."""
        x_BFND = x_BFND + self.spatial(self.spatial_norm(x_BFND))
        return x_BFND, *self.temporal.ask(self.temporal_norm(x_BFND))

    def after_past(self, x_BFND: Tensor, query: Tensor, keys_tBNhd: Tensor, values_tBNhd: Tensor) -> Tensor:
        """The rest of `extend`: temporal attention to all frames so far, and the MLP."""
        x_BFND = x_BFND + self.temporal.answer(query, keys_tBNhd, values_tBNhd)
        return x_BFND + self.mlp(self.mlp_norm(x_BFND))


class STTransformer(nn.Module):
    """The trunk that all six networks of the paper share; causal in time, full attention in space.

    `num_prefix` tokens before the square grid of a frame get the position of the frame alone.
    """

    def __init__(self, config: STTransformerConfig, num_prefix: int = 0):
        super().__init__()
        self.num_prefix = num_prefix
        self.d_model, self.num_heads = config.d_model, config.num_heads
        out_scale = config.num_layers**-0.5
        self.blocks = nn.ModuleList(
            STBlock(config.d_model, config.num_heads, out_scale) for _ in range(config.num_layers // 2)
        )
        self.final_norm = nn.LayerNorm(config.d_model)
        self.positions: Tensor
        self.register_buffer("positions", torch.empty(0), persistent=False)

    def forward(self, x_BTND: Tensor) -> Tensor:
        """Add positions once, run the blocks; frame t of the output depends on frames <= t only."""
        num_frames, num_tokens = x_BTND.shape[1:3]
        x_BTND = x_BTND + self._positions(0, num_frames, num_tokens, x_BTND)
        for block in self.blocks:
            x_BTND = block(x_BTND)
        return self.final_norm(x_BTND)

    def empty_cache(self, batch: int, num_tokens: int, capacity: int) -> TemporalCache:
        """Room for a window of `capacity` frames of `num_tokens` each, prefix not counted."""
        self.reserve(capacity, num_tokens)
        num_tokens += self.num_prefix
        shape = (batch, num_tokens, self.num_heads, self.d_model // self.num_heads)
        kept_as = self.blocks[0].get_parameter("temporal.qkv.weight")
        return TemporalCache.empty(len(self.blocks), shape, capacity, kept_as)

    def extend(self, x_BFND: Tensor, past: TemporalCache) -> tuple[Tensor, TemporalCache]:
        """What `forward` gives for F frames that follow the frames in `past`, and the cache that holds them too."""
        num_frames, num_tokens = x_BFND.shape[1:3]
        x_BFND = x_BFND + self._positions(past.length, past.length + num_frames, num_tokens, x_BFND)
        layers = []
        for block, layer in zip(self.blocks, past.layers, strict=True):
            assert isinstance(block, STBlock)
            x_BFND, present = block.extend(x_BFND, layer)
            layers.append(present)
        return self.final_norm(x_BFND), TemporalCache(tuple(layers))

    def reserve(self, num_frames: int, num_tokens: int) -> None:
        """Make the positions of a window of `num_frames` now; shorter ones are read from the same memory."""
        self._positions(0, num_frames, num_tokens + self.num_prefix, self.final_norm.weight)

    def _positions(self, start: int, stop: int, num_tokens: int, like: Tensor) -> Tensor:
        """Positions [F, N, D] of frames start..stop-1 of a window; made once for the longest window seen."""
        cached = self.positions
        if cached.ndim != 3 or cached.shape[0] < stop or cached.shape[1] != num_tokens:
            _require_room(stop, num_tokens, self.d_model)
            cached = space_time_positions(stop, num_tokens - self.num_prefix, self.d_model)
            frame = sinusoids(stop, self.d_model)[:, None].expand(-1, self.num_prefix, -1)
            cached = torch.cat([frame, cached], dim=1).to(like)
            self.positions = cached
        return cached[start:stop].to(like)


def _require_room(num_frames: int, num_tokens: int, d_model: int) -> None:
    """BadDataError for positions beyond our limit: a window is asked for in text, and no weight's shape says it."""
    size = num_frames * num_tokens * d_model * torch.float32.itemsize
    if size > HIDDEN_BYTES:
        raise BadDataError("a model that needs too much beside its weights", place="positions of a window",
                           found=f"{num_frames} frames x {num_tokens} tokens x {d_model}: {size} bytes",
                           expected=f"<= {HIDDEN_BYTES}")  # fmt: skip
