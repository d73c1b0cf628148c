"""Dynamics: the next frame's tokens, all in parallel, from tokens, actions and behavior embeddings (Eq. 6, Table 7).

Shapes: B batch, T frames (window), N tokens per frame, V codes, D width, A action size, Z = K * M behavior embedding.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from whale.common.config import Config
from whale.models.behavior.categorical import mode, sample
from whale.models.dynamics.maskgit import MASKED, Again, decode, hidden
from whale.models.dynamics.token_loss import tied_cross_entropy
from whale.models.trunk.cache import TemporalCache
from whale.models.trunk.folder import PublishedModel
from whale.models.trunk.linear import linear
from whale.models.trunk.masking import mean_weights
from whale.models.trunk.st_transformer import STTransformer, STTransformerConfig

TOKEN_STD = 0.02


class DynamicsConfig(Config):
    """A row of Table 7; `copy_bias` (a learned bonus on the logit of the current token) is for small CPU runs only.

    `action_mode`: action and z are added to every token of their frame, or prepended to them as one more token.
    `sampler`: all tokens of the next frame in one pass (Eq. 6), or an ablation, MaskGIT in `maskgit_passes` passes.
    `z_size`: Z = K M of the behavior model; `z_categories`: K, z is one-hot in each.
    `z_input`: z is drawn from the prior in training and its mode in a rollout (sample), or its probabilities in both.
    """

    num_codes: int = Field(gt=1)
    action_size: int = Field(gt=0)
    z_size: int = Field(gt=0)
    z_categories: int = Field(default=16, gt=0)
    behavior_conditioning: bool
    copy_bias: float | None = None
    action_mode: Literal["add", "prepend"] = "add"
    sampler: Literal["parallel", "maskgit"] = "parallel"
    maskgit_passes: int = Field(default=8, gt=0)
    trunk: STTransformerConfig
    z_input: Literal["sample", "probabilities"] = "sample"

    @model_serializer(mode="wrap")
    def _without_the_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model with drawn z is written as it was before there was a choice."""
        values = serialize(self)
        return {key: values[key] for key in values if (key, values[key]) != ("z_input", "sample")}


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
        # z enters as the MEAN of its K rows. AdamW moves every row alike, so their sum moved K times as fast, after the
        # noise that z is drawn with: z then cost likelihood on every robot of the demo.
        scale = TOKEN_STD * math.sqrt(width) * math.sqrt(config.z_size / config.z_categories)
        self.z = linear(config.z_size, width, scale=scale)
        self.trunk = STTransformer(config.trunk, num_prefix=self.num_prefix)
        if config.sampler == "maskgit":
            self.masked = nn.Parameter(torch.randn(width) * TOKEN_STD * math.sqrt(width))
            self.revealed = linear(width, width)
        if config.copy_bias is not None:
            self.copy_bias = nn.Parameter(torch.tensor(float(config.copy_bias)))

    @property
    def num_prefix(self) -> int:
        """Tokens before those of a frame: one if action and z are prepended."""
        return int(self.config.action_mode == "prepend")

    def logits(
        self, tokens_BTN: Tensor, actions_BTA: Tensor, z_BTZ: Tensor, revealed_BTN: Tensor | None = None
    ) -> Tensor:
        """Logits [B, T, N, V]; row h is for the tokens of frame h + 1.

        Without behavior conditioning `z_BTZ` is replaced by zeros: the same network, blind to z.
        revealed_BTN: tokens of frame h + 1 that a MaskGIT sampler has chosen already, MASKED elsewhere; None: none.
        """
        inputs = self._inputs(tokens_BTN, actions_BTA, z_BTZ, revealed_BTN)
        return self._head(self.trunk(inputs)[:, :, self.num_prefix :], tokens_BTN)

    def empty_cache(self, batch: int, num_tokens: int, capacity: int) -> TemporalCache:
        """Room for `capacity` frames."""
        return self.trunk.empty_cache(batch, num_tokens, capacity)

    def extend(
        self, tokens_BFN: Tensor, actions_BFA: Tensor, z_BFZ: Tensor, past: TemporalCache,
        revealed_BFN: Tensor | None = None,
    ) -> tuple[Tensor, TemporalCache]:  # fmt: skip
        """The last row of `logits` [B, N, V] after F frames that follow those in `past`, and the longer cache."""
        inputs = self._inputs(tokens_BFN, actions_BFA, z_BFZ, revealed_BFN)
        features_BFND, present = self.trunk.extend(inputs, past)
        return self._head(features_BFND[:, -1, self.num_prefix :], tokens_BFN[:, -1]), present

    def choose(self, logits_BNV: Tensor, again: Again, noise: Tensor | None, temperature: float) -> Tensor:
        """The next frame's tokens [B, N]: argmax, or drawn with Gumbel `noise` [B, N, V] at `temperature`.

        `logits_BNV`: with nothing revealed; `again`: the same logits after some tokens are. Temperature divides logits,
        not probabilities.
        """
        passes = self.config.maskgit_passes if self.config.sampler == "maskgit" else 1
        return decode(logits_BNV, again, passes, noise, temperature)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy of the next frame's tokens (Eq. 6), z_h drawn afresh from the stored prior.

        `tokens` [B, T+1, N], `action` [B, T, A], `action_valid` [B, T], `z_log_probs` [B, T, K, M],
        `uniform` [B, T, K], `num_frames` [B].
        """
        tokens, actions = batch["tokens"], batch["action"]
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        z_BTZ = self._drawn_z(batch["z_log_probs"], batch["uniform"])
        step_BT = torch.arange(actions.shape[1], device=actions.device) < batch["num_frames"][:, None] - 1
        predicted_BTN = self._predicted(targets, batch["uniform"])
        revealed = None if predicted_BTN is None else torch.where(predicted_BTN, MASKED, targets)
        features = self.trunk(self._inputs(inputs, actions, z_BTZ, revealed))[:, :, self.num_prefix :]
        loss, is_hit = tied_cross_entropy(
            features.flatten(0, 2),
            self.tokens.weight,
            targets.flatten(),
            self._token_weights(step_BT & batch["action_valid"], targets, predicted_BTN).flatten(),
            inputs.flatten(),
            self.copy_bias if self.config.copy_bias is not None else None,
        )
        changed = (targets != inputs) & step_BT[..., None]
        changed_accuracy = (is_hit.view_as(changed) & changed).sum() / changed.sum().clamp_min(1)
        return loss, {"nll": loss.detach(), "changed_accuracy": changed_accuracy}

    def inferred_z(self, log_probs_BTKM: Tensor) -> Tensor:
        """z [B, T, Z] of a rollout: the mode of the prior, or its probabilities if those are what this model takes."""
        as_probabilities = self.config.z_input == "probabilities"
        return (log_probs_BTKM.exp() if as_probabilities else mode(log_probs_BTKM)).flatten(2)

    def _drawn_z(self, log_probs_BTKM: Tensor, uniform_BTK: Tensor) -> Tensor:
        if self.config.z_input == "probabilities":
            return log_probs_BTKM.exp().flatten(2)
        return sample(log_probs_BTKM, uniform_BTK).flatten(2)

    def _inputs(
        self, tokens_BTN: Tensor, actions_BTA: Tensor, z_BTZ: Tensor, revealed_BTN: Tensor | None = None
    ) -> Tensor:
        """What the trunk reads: [B, T, N, D], or [B, T, 1 + N, D] with action and z in front."""
        if not self.config.behavior_conditioning:
            z_BTZ = torch.zeros_like(z_BTZ)
        scale = math.sqrt(self.config.trunk.d_model)
        x_BTND = self.tokens(tokens_BTN) * scale
        if self.config.sampler == "maskgit":
            x_BTND = x_BTND + self._next_frame(revealed_BTN, scale)
        condition_BT1D = (self.action(actions_BTA) + self.z(z_BTZ) / self.config.z_categories)[:, :, None]
        return torch.cat([condition_BT1D, x_BTND], dim=2) if self.num_prefix else x_BTND + condition_BT1D

    def _next_frame(self, revealed_BTN: Tensor | None, scale: float) -> Tensor:
        """What is known of the next frame's tokens: a projected embedding where revealed, one learned vector else."""
        if revealed_BTN is None:
            return self.masked
        known = self.revealed(self.tokens(revealed_BTN.clamp_min(0)) * scale)
        return torch.where((revealed_BTN == MASKED)[..., None], self.masked, known)

    def _predicted(self, targets_BTN: Tensor, uniform_BTK: Tensor) -> Tensor | None:
        """Which tokens a training pass has to predict: all of them (None) but under MaskGIT."""
        if self.config.sampler == "parallel":
            return None
        return hidden(targets_BTN, uniform_BTK[:, 0, 0])

    def _head(self, features_ND: Tensor, current_N: Tensor) -> Tensor:
        """Logits [..., N, V] of the tokens that follow the `current` ones: the tied head, and the bias to copy."""
        logits_NV = features_ND @ self.tokens.weight.T
        if self.config.copy_bias is None:
            return logits_NV
        bias = self.copy_bias.to(logits_NV.dtype).expand(*current_N.shape, 1)
        return logits_NV.scatter_add(-1, current_N[..., None], bias)

    def _token_weights(self, valid_BT: Tensor, targets_BTN: Tensor, predicted_BTN: Tensor | None) -> Tensor:
        """Weights [B, T, N] of the nll: its mean over predicted tokens, then over valid steps, then over segments."""
        weights_BT = mean_weights(valid_BT, self.tokens.weight.dtype)
        if predicted_BTN is None:
            return (weights_BT / targets_BTN.shape[-1])[..., None].expand_as(targets_BTN)
        return (weights_BT / predicted_BTN.sum(-1))[..., None] * predicted_BTN
