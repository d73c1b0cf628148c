"""Dynamics: the next frame's tokens, all in parallel, from tokens, actions and behavior embeddings (Eq. 6, Table 7).

Shapes: B batch, T frames (window), N tokens per frame, V codes, D width, A action size, Z = 256 behavior embedding.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from whale.config import Config
from whale.models.cache import TemporalCache
from whale.models.categorical import sample
from whale.models.folder import PublishedModel
from whale.models.layers import linear
from whale.models.masking import mean_weights
from whale.models.st_transformer import STTransformer, STTransformerConfig
from whale.models.token_loss import tied_cross_entropy

TOKEN_STD = 0.02


class DynamicsConfig(Config):
    """A row of Table 7; `copy_bias` (a learned bonus on the logit of the current token) is for small CPU runs only."""

    num_codes: int = Field(gt=1)
    action_size: int = Field(gt=0)
    z_size: int = Field(gt=0)
    behavior_conditioning: bool
    copy_bias: float | None = None
    trunk: STTransformerConfig


class Dynamics(PublishedModel):
    """p(x_{h+1} | x_{1:h}, a_{1:h}, z_h) = prod_j p(x^j_{h+1} | .): one pass, no mask token, tied head."""

    kind = "dynamics"
    config_class = DynamicsConfig

    def __init__(self, config: DynamicsConfig):
        super().__init__()
        self.config = config
        width = config.trunk.d_model
        self.tokens = nn.Embedding(config.num_codes, width)
        nn.init.normal_(self.tokens.weight, std=TOKEN_STD)
        self.action = linear(config.action_size, width)
        # z is a sum of 16 rows: at first it weighs as much as a token. At weight 1 (five tokens at D = 96) its sampling
        # noise hid the tokens, and the same likelihood took a quarter more steps.
        self.z = linear(config.z_size, width, scale=TOKEN_STD * math.sqrt(width) * math.sqrt(config.z_size / 16))
        self.trunk = STTransformer(config.trunk)
        if config.copy_bias is not None:
            self.copy_bias = nn.Parameter(torch.tensor(float(config.copy_bias)))

    def logits(self, tokens_BTN: Tensor, actions_BTA: Tensor, z_BTZ: Tensor) -> Tensor:
        """Logits [B, T, N, V]; row h is for the tokens of frame h + 1.

        Without behavior conditioning `z_BTZ` is replaced by zeros: the same network, blind to z.
        """
        features_BTND = self.trunk(self._inputs(tokens_BTN, actions_BTA, z_BTZ))
        return self._head(features_BTND, tokens_BTN)

    def empty_cache(self, batch: int, num_tokens: int, capacity: int) -> TemporalCache:
        """Room for `capacity` frames."""
        return self.trunk.empty_cache(batch, num_tokens, capacity)

    def extend(
        self, tokens_BFN: Tensor, actions_BFA: Tensor, z_BFZ: Tensor, past: TemporalCache
    ) -> tuple[Tensor, TemporalCache]:
        """The last row of `logits` [B, N, V] after F frames that follow those in `past`, and the longer cache."""
        features_BFND, present = self.trunk.extend(self._inputs(tokens_BFN, actions_BFA, z_BFZ), past)
        return self._head(features_BFND[:, -1], tokens_BFN[:, -1]), present

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy of the next frame's tokens (Eq. 6), z_h drawn afresh from the stored prior.

        `tokens` [B, T+1, N], `action` [B, T, A], `action_valid` [B, T], `z_log_probs` [B, T, 16, 16],
        `uniform` [B, T, 16], `num_frames` [B].
        """
        tokens, actions = batch["tokens"], batch["action"]
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        z_BTZ = sample(batch["z_log_probs"], batch["uniform"]).flatten(2)
        step_BT = torch.arange(actions.shape[1], device=actions.device) < batch["num_frames"][:, None] - 1
        features = self.trunk(self._inputs(inputs, actions, z_BTZ))
        loss, is_hit = tied_cross_entropy(
            features.flatten(0, 2),
            self.tokens.weight,
            targets.flatten(),
            self._token_weights(step_BT & batch["action_valid"], targets).flatten(),
            inputs.flatten(),
            self.copy_bias if self.config.copy_bias is not None else None,
        )
        changed = (targets != inputs) & step_BT[..., None]
        changed_accuracy = (is_hit.view_as(changed) & changed).sum() / changed.sum().clamp_min(1)
        return loss, {"nll": loss.detach(), "changed_accuracy": changed_accuracy}

    def _inputs(self, tokens_BTN: Tensor, actions_BTA: Tensor, z_BTZ: Tensor) -> Tensor:
        """What the trunk reads: [B, T, N, D]."""
        if not self.config.behavior_conditioning:
            z_BTZ = torch.zeros_like(z_BTZ)
        x_BTND = self.tokens(tokens_BTN) * math.sqrt(self.config.trunk.d_model)
        return x_BTND + (self.action(actions_BTA) + self.z(z_BTZ))[:, :, None]

    def _head(self, features_ND: Tensor, current_N: Tensor) -> Tensor:
        """Logits [..., N, V] of the tokens that follow the `current` ones: the tied head, and the bias to copy."""
        logits_NV = features_ND @ self.tokens.weight.T
        if self.config.copy_bias is None:
            return logits_NV
        bias = self.copy_bias.to(logits_NV.dtype).expand(*current_N.shape, 1)
        return logits_NV.scatter_add(-1, current_N[..., None], bias)

    def _token_weights(self, valid_BT: Tensor, targets_BTN: Tensor) -> Tensor:
        """Weights [B, T, N] of the nll: its mean over tokens, then over valid steps, then over segments."""
        weights_BT = mean_weights(valid_BT, self.tokens.weight.dtype)
        return (weights_BT / targets_BTN.shape[-1])[..., None].expand_as(targets_BTN)
