"""Reward head: what an action earned, from what the frames before and after it show (model for P 6.1.2; ours).

One head serves all world models, also those of others: it sees pictures, through the frozen tokenizer's encoder, each
described by itself. It learns from recorded frames and from their reconstructions, because imagined frames look like
those. There is no task among its inputs: the scene shows it.
Shapes: B segments, T steps, V versions of the frames, F features of a frame, A actions.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from whale.common.config import Config
from whale.models.trunk.folder import PublishedModel
from whale.models.trunk.masking import mean_over_valid


class RewardHeadConfig(Config):
    """`feature_size`: tokens of a frame times the width of a latent."""

    feature_size: int = Field(gt=0)
    action_size: int = Field(gt=0)
    hidden: int = Field(gt=0)


class RewardHead(PublishedModel):
    """Two hidden layers on the features of both frames and the normalised action; predicts symlog of the reward."""

    kind = "reward_head"
    config_class = RewardHeadConfig

    def __init__(self, config: RewardHeadConfig):
        super().__init__()
        self.config = config
        self.first = nn.Linear(2 * config.feature_size + config.action_size, config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.last = nn.Linear(config.hidden, 1)

    def predict(self, before: Tensor, after: Tensor, action: Tensor) -> Tensor:
        """Features [..., F] of the frames around normalised actions [..., A] -> rewards [...] in raw units."""
        return symexp(self._symlog_reward(before, after, action))

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of symlog rewards over valid steps and both versions.

        features [B, T+1, V, F], action [B, T, A], action_valid [B, T], reward [B, T].
        """
        features, num_versions = batch["features"], batch["features"].shape[2]
        action_BTVA = batch["action"][:, :, None].expand(-1, -1, num_versions, -1)
        found_BTV = self._symlog_reward(features[:, :-1], features[:, 1:], action_BTVA)
        error_BTV = (found_BTV - symlog(batch["reward"])[..., None]).square()
        errors = [mean_over_valid(error, batch["action_valid"]) for error in error_BTV.unbind(-1)]
        return torch.stack(errors).mean(), {"recorded": errors[0], "reconstructed": errors[-1]}

    def _symlog_reward(self, before: Tensor, after: Tensor, action: Tensor) -> Tensor:
        x = F.gelu(self.first(torch.cat([before, after, action], dim=-1)))
        return self.last(F.gelu(self.second(x)))[..., 0]


def symlog(values: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): rewards of 0 to 10 and rare large ones on one scale (DreamerV3)."""
    return values.sign() * values.abs().log1p()


def symexp(values: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return values.sign() * values.abs().expm1()
