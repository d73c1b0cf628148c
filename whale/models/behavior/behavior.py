"""Behavior-conditioning model: posterior q(z | tau_H), prior p(z | tau_h), policy pi(a_h | o_h, tau_{h-1}, z).

Eq. 3 and 4, Table 6. Each sub-model has its own patch stem: Table 6 gives them different widths.
Shapes: B batch, T frames (window), R resolution, A action size, K categories x M classes of z (16 x 16), Z = K * M.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from whale.common.config import Config
from whale.models.behavior.categorical import (
    balanced_kl,
    information,
    kl_divergence,
    mix_uniform,
    sample,
    straight_through,
    usage_entropy,
)
from whale.models.trunk.cache import TemporalCache
from whale.models.trunk.folder import PublishedModel
from whale.models.trunk.layers import patchify
from whale.models.trunk.linear import linear
from whale.models.trunk.masking import mean_over_valid
from whale.models.trunk.st_transformer import STTransformer, STTransformerConfig


class BehaviorConfig(Config):
    """Table 6 and the choices the paper leaves open (docs/explanation/paper.md).

    `memory`: H, the most steps that the prior looks back on, a window of the dynamics or more: z_h ~ p(tau_h) then has
    the history before the window too. Without it a history begins with the window.
    """

    resolution: int = Field(gt=0)
    patch_size: int = Field(gt=0)
    action_size: int = Field(gt=0)
    num_categories: int = Field(gt=0)
    num_classes: int = Field(gt=1)
    kl_beta: float = Field(ge=0)
    kl_balance: Literal["plain", "dreamer"] = "plain"
    unimix: float = Field(ge=0, lt=1)
    log_std_range: list[float] = Field(min_length=2, max_length=2)
    posterior: STTransformerConfig
    prior: STTransformerConfig
    policy: STTransformerConfig
    memory: int | None = Field(default=None, gt=0)

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model without memory is written as it was before there was any."""
        values = serialize(self)
        return values if self.memory is not None else {key: values[key] for key in values if key != "memory"}

    @property
    def z_shape(self) -> tuple[int, int]:
        """(K, M): z is K one-hot vectors of M classes."""
        return self.num_categories, self.num_classes


class HistoryEncoder(nn.Module):
    """Patches of each frame plus its action through a causal trunk: features [B, T, D], mean over patches."""

    def __init__(self, config: BehaviorConfig, trunk: STTransformerConfig):
        super().__init__()
        self.patch_size = config.patch_size
        self.stem = linear(3 * config.patch_size**2, trunk.d_model, bias=True)
        self.stem_norm = nn.LayerNorm(trunk.d_model)
        self.action = linear(config.action_size, trunk.d_model)
        self.trunk = STTransformer(trunk)

    def forward(self, frames_BTRRC: Tensor, actions_BTA: Tensor, extra_BD: Tensor | None = None) -> Tensor:
        x_BTND = self._inputs(frames_BTRRC, actions_BTA)
        if extra_BD is not None:
            x_BTND = x_BTND + extra_BD[:, None, None]
        return self.trunk(x_BTND).mean(dim=2)

    def extend(self, frames_BFRRC: Tensor, actions_BFA: Tensor, past: TemporalCache) -> tuple[Tensor, TemporalCache]:
        """Features [B, F, D] of F steps that follow those in `past`, and the longer cache."""
        x_BFND, present = self.trunk.extend(self._inputs(frames_BFRRC, actions_BFA), past)
        return x_BFND.mean(dim=2), present

    def _inputs(self, frames_BTRRC: Tensor, actions_BTA: Tensor) -> Tensor:
        x_BTND = self.stem_norm(self.stem(patchify(frames_BTRRC, self.patch_size)))
        return x_BTND + self.action(actions_BTA)[:, :, None]


class BehaviorModel(PublishedModel):
    """The three networks of Eq. 4. Only the prior is deployed; the others train it."""

    kind = "behavior_model"
    config_class = BehaviorConfig

    def __init__(self, config: BehaviorConfig):
        super().__init__()
        self.config = config
        z_size = math.prod(config.z_shape)
        self.posterior_encoder = HistoryEncoder(config, config.posterior)
        self.posterior_head = linear(config.posterior.d_model, z_size, bias=True)
        self.prior_encoder = HistoryEncoder(config, config.prior)
        self.prior_head = linear(config.prior.d_model, z_size, bias=True)
        self.policy_encoder = HistoryEncoder(config, config.policy)
        self.policy_z = linear(z_size, config.policy.d_model, scale=math.sqrt(z_size / config.num_categories))
        self.policy_head = linear(config.policy.d_model, 2 * config.action_size, bias=True)

    def posterior_log_probs(self, frames_BTRRC: Tensor, actions_BTA: Tensor, num_steps_B: Tensor) -> Tensor:
        """q(z | tau): [B, K, M] from the features at each segment's last valid step; frames in [0, 1]."""
        features_BTD = self.posterior_encoder(frames_BTRRC, actions_BTA)
        last_B = (num_steps_B - 1).clamp_min(0)
        return self._log_probs(
            self.posterior_head(features_BTD[torch.arange(len(last_B), device=last_B.device), last_B])
        )

    def prior_log_probs(self, frames_BTRRC: Tensor, actions_BTA: Tensor) -> Tensor:
        """p(z | tau_h) for every h: [B, T, K, M]; step h reads o_1..o_h and a_1..a_h, nothing later."""
        return self._log_probs(self.prior_head(self.prior_encoder(frames_BTRRC, actions_BTA)))

    def empty_cache(self, batch: int, capacity: int) -> TemporalCache:
        """Room for `capacity` steps of the prior."""
        num_patches = (self.config.resolution // self.config.patch_size) ** 2
        return self.prior_encoder.trunk.empty_cache(batch, num_patches, capacity)

    def extend_prior(
        self, frames_BFRRC: Tensor, actions_BFA: Tensor, past: TemporalCache
    ) -> tuple[Tensor, TemporalCache]:
        """`prior_log_probs` [B, F, K, M] of F steps that follow those in `past`, and the longer cache."""
        features_BFD, present = self.prior_encoder.extend(frames_BFRRC, actions_BFA, past)
        return self._log_probs(self.prior_head(features_BFD)), present

    def policy(self, frames_BTRRC: Tensor, actions_BTA: Tensor, z_BZ: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation [B, T, A] of a_h given o_1..o_h, a_1..a_{h-1} (shifted right here) and z."""
        shifted = torch.cat([torch.zeros_like(actions_BTA[:, :1]), actions_BTA[:, :-1]], dim=1)
        features_BTD = self.policy_encoder(frames_BTRRC, shifted, self.policy_z(z_BZ))
        mean, log_std = self.policy_head(features_BTD).chunk(2, dim=-1)
        low, high = self.config.log_std_range
        return mean, log_std.clamp(low, high)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 4, mean over steps: -log pi(a_h | ., z) + beta KL(q || p_h), one z ~ q per segment.

        `frames` uint8 [B, T+1, R, R, 3], `action` [B, T, A], `action_valid` [B, T], `action_mask` [B, A],
        `num_frames` [B], `uniform` [B, T, K] (its first row draws z).
        """
        actions = batch["action"]
        frames = batch["frames"][:, : actions.shape[1]].float() / 255
        log_q = self.posterior_log_probs(frames, actions, batch["num_frames"] - 1)
        log_p = self.prior_log_probs(frames, actions)
        z_BKM = straight_through(sample(log_q.detach(), batch["uniform"][:, 0]), log_q)
        mean, log_std = self.policy(frames, actions, z_BKM.flatten(1))
        nll_BT = gaussian_nll(actions, mean, log_std, batch["action_mask"])
        step_BT = torch.arange(actions.shape[1], device=actions.device) < batch["num_frames"][:, None] - 1
        nll = mean_over_valid(nll_BT, step_BT & batch["action_valid"])
        kl = mean_over_valid(self._kl(log_q[:, None], log_p), step_BT)
        logs = {"policy_nll": nll, "kl": kl}
        logs |= {"z_usage_entropy": usage_entropy(log_q.detach()), "z_information": information(log_q.detach())}
        return nll + self.config.kl_beta * kl, logs

    def _log_probs(self, logits_Z: Tensor) -> Tensor:
        return mix_uniform(logits_Z.unflatten(-1, self.config.z_shape), self.config.unimix)

    def _kl(self, log_q: Tensor, log_p: Tensor) -> Tensor:
        if self.config.kl_balance == "plain":  # Eq. 4 to the letter: gradient to both
            return kl_divergence(log_q, log_p)
        return balanced_kl(log_q, log_p)


def gaussian_nll(actions: Tensor, mean: Tensor, log_std: Tensor, mask_BA: Tensor) -> Tensor:
    """-log N(a; mean, exp(log_std)) in nats [B, T], summed over the action dimensions that `mask_BA` keeps."""
    scaled = (actions - mean) * (-log_std).exp()
    nll_BTA = 0.5 * scaled.square() + log_std + 0.5 * math.log(2 * math.pi)
    return (nll_BTA * mask_BA[:, None].to(nll_BTA.dtype)).sum(-1)
