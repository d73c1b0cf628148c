"""A straightforward torch dynamics of the same mathematics: what one writes first, kept to be compared with.

nn.Linear, F.scaled_dot_product_attention over reshaped axes, F.rms_norm, F.cross_entropy over all logits. It loads
our weights, and the benchmarks check that it gives the same logits before they time anything.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from whale.models.dynamics import Dynamics
from whale.models.layers import space_time_positions


class ReferenceAttention(nn.Module):
    """Multi-head attention over the second-to-last axis, queries and keys normalised."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.query_gain, self.key_gain = (nn.Parameter(torch.ones(width // heads)) for _ in range(2))

    def forward(self, x: Tensor, is_causal: bool) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        query = F.rms_norm(query, self.query_gain.shape, self.query_gain, 1e-6)
        key = F.rms_norm(key, self.key_gain.shape, self.key_gain, 1e-6)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return self.o(mixed.transpose(1, 2).flatten(2))


class ReferenceBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.space, self.time = ReferenceAttention(width, heads), ReferenceAttention(width, heads)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x_BTND: Tensor) -> Tensor:
        batch, frames, tokens, width = x_BTND.shape
        within = self.norms[0](x_BTND).reshape(batch * frames, tokens, width)
        x_BTND = x_BTND + self.space(within, False).view_as(x_BTND)
        along = self.norms[1](x_BTND).transpose(1, 2).reshape(batch * tokens, frames, width)
        moved = self.time(along, True).view(batch, tokens, frames, width).transpose(1, 2)
        x_BTND = x_BTND + moved
        return x_BTND + self.down(F.gelu(self.up(self.norms[2](x_BTND))))


class ReferenceDynamics(nn.Module):
    """Eq. 6 with the weights of `ours`."""

    def __init__(self, ours: Dynamics):
        super().__init__()
        trunk = ours.config.trunk
        self.width = trunk.d_model
        self.tokens = nn.Embedding.from_pretrained(ours.tokens.weight.detach().clone(), freeze=False)
        self.action = nn.Linear(ours.config.action_size, self.width, bias=False)
        self.z = nn.Linear(ours.config.z_size, self.width, bias=False)
        self.blocks = nn.ModuleList(ReferenceBlock(self.width, trunk.num_heads) for _ in ours.trunk.blocks)
        self.final_norm = nn.LayerNorm(self.width)
        self._load(ours)

    def logits(self, tokens_BTN: Tensor, actions_BTA: Tensor, z_BTZ: Tensor) -> Tensor:
        """As `Dynamics.logits`."""
        x = self.tokens(tokens_BTN) * math.sqrt(self.width)
        x = x + (self.action(actions_BTA) + self.z(z_BTZ))[:, :, None]
        x = x + space_time_positions(x.shape[1], x.shape[2], self.width)
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x) @ self.tokens.weight.T

    def loss(self, batch: dict[str, Tensor], z_BTZ: Tensor) -> Tensor:
        """Mean cross-entropy of the next frame's tokens."""
        logits = self.logits(batch["tokens"][:, :-1], batch["action"], z_BTZ)
        return F.cross_entropy(logits.flatten(0, 2), batch["tokens"][:, 1:].flatten())

    @torch.no_grad()
    def _load(self, ours: Dynamics) -> None:
        self.action.weight.copy_(ours.action.weight)
        self.z.weight.copy_(ours.z.weight)
        self.final_norm.load_state_dict(ours.trunk.final_norm.state_dict())
        for mine, theirs in zip(self.blocks, ours.trunk.blocks, strict=True):
            for norm, name in zip(mine.norms, ("spatial_norm", "temporal_norm", "mlp_norm"), strict=True):
                norm.load_state_dict(getattr(theirs, name).state_dict())
            for attention, source in ((mine.space, theirs.spatial), (mine.time, theirs.temporal)):
                for layer, weight in zip(
                    (attention.q, attention.k, attention.v), source.qkv.weight.chunk(3), strict=True
                ):
                    layer.weight.copy_(weight)
                attention.o.weight.copy_(source.out.weight)
                attention.query_gain.copy_(source.query_norm.weight)
                attention.key_gain.copy_(source.key_norm.weight)
            mine.up.weight.copy_(theirs.mlp.up.weight)
            mine.down.weight.copy_(theirs.mlp.down.weight)
