"""A straightforward torch dynamics of the same mathematics, written as an open implementation writes it.

Attention, block and loss follow 1x-technologies/1xgpt@0e33ad8 (genie/attention.py `BasicSelfAttention`, what it runs
without xformers; genie/st_transformer.py `STBlock`; genie/st_mask_git.py `compute_loss_and_acc`): one projection to
queries, keys and values, scores and softmax written out, a causal mask made at every call, nn.GELU, all logits at once,
loss and accuracy. Its mathematics is ours: RMSNorm on queries and keys, a norm before each of the three, a tied head,
no biases. It loads our weights, and the benchmarks check that it gives the same logits before they time anything.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from whale.models.dynamics.dynamics import Dynamics
from whale.models.trunk.layers import space_time_positions


class ReferenceAttention(nn.Module):
    """Multi-head attention over the second-to-last axis, queries and keys normalised."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.query_norm, self.key_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))

    def forward(self, x: Tensor, is_causal: bool = False) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = self.query_norm(qkv[0]) * self.scale, self.key_norm(qkv[1]), qkv[2]
        scores = query @ key.transpose(-2, -1)
        if is_causal:
            mask = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(mask, -torch.finfo(scores.dtype).max)
        mixed = scores.softmax(dim=-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class ReferenceBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.space, self.time = ReferenceAttention(width, heads), ReferenceAttention(width, heads)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.activation = nn.GELU()

    def forward(self, x_BTND: Tensor) -> Tensor:
        batch, frames, tokens, width = x_BTND.shape
        within = x_BTND.reshape(batch * frames, tokens, width)
        within = within + self.space(self.norms[0](within))
        along = within.view(x_BTND.shape).transpose(1, 2).reshape(batch * tokens, frames, width)
        along = along + self.time(self.norms[1](along), is_causal=True)
        along = along + self.down(self.activation(self.up(self.norms[2](along))))
        return along.view(batch, tokens, frames, width).transpose(1, 2)


class ReferenceDynamics(nn.Module):
    """Eq. 6 with the weights of `ours`."""

    def __init__(self, ours: Dynamics):
        super().__init__()
        trunk = ours.config.trunk
        self.width, self.z_categories = trunk.d_model, ours.config.z_categories
        self.tokens = nn.Embedding.from_pretrained(ours.tokens.weight.detach().clone(), freeze=False)
        self.action = nn.Linear(ours.config.action_size, self.width, bias=False)
        self.z = nn.Linear(ours.config.z_size, self.width, bias=False)
        self.blocks = nn.ModuleList(ReferenceBlock(self.width, trunk.num_heads) for _ in ours.trunk.blocks)
        self.final_norm = nn.LayerNorm(self.width)
        self._load(ours)

    def logits(self, tokens_BTN: Tensor, actions_BTA: Tensor, z_BTZ: Tensor) -> Tensor:
        """As `Dynamics.logits`."""
        x = self.tokens(tokens_BTN) * math.sqrt(self.width)
        x = x + (self.action(actions_BTA) + self.z(z_BTZ) / self.z_categories)[:, :, None]
        x = x + space_time_positions(x.shape[1], x.shape[2], self.width)
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x) @ self.tokens.weight.T

    def loss(self, batch: dict[str, Tensor], z_BTZ: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of the next frame's tokens, and the share of them that is the most likely one."""
        logits = self.logits(batch["tokens"][:, :-1], batch["action"], z_BTZ).flatten(0, 2)
        targets = batch["tokens"][:, 1:].flatten()
        return F.cross_entropy(logits, targets), (logits.argmax(-1) == targets).float().mean()

    @torch.no_grad()
    def _load(self, ours: Dynamics) -> None:
        self.action.weight.copy_(ours.action.weight)
        self.z.weight.copy_(ours.z.weight)
        self.final_norm.load_state_dict(ours.trunk.final_norm.state_dict())
        for mine, theirs in zip(self.blocks, ours.trunk.blocks, strict=True):
            for norm, name in zip(mine.norms, ("spatial_norm", "temporal_norm", "mlp_norm"), strict=True):
                norm.load_state_dict(getattr(theirs, name).state_dict())
            mine.space.load_state_dict(theirs.spatial.state_dict())
            mine.time.load_state_dict(theirs.temporal.state_dict())
            mine.up.weight.copy_(theirs.mlp.up.weight)
            mine.down.weight.copy_(theirs.mlp.down.weight)
