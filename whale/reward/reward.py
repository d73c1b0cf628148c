"""Reward head: what an action earned, from what frames show before and after it (model for P 6.1.2; ours).

One head serves all world models, also those of others: it sees pictures, through the frozen tokenizer's encoder, each
described by itself. It learns from recorded frames and from their reconstructions, because imagined frames look like
those. Many rewards are progress since an episode began, hence its first frame; one scene may allow several tasks,
hence the instruction.
Shapes: B segments, T steps, V versions of the frames, F features of a frame, A actions, K tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from whale.common.config import Config
from whale.common.errors import BadDataError, ConfigError, RefusedError
from whale.models.trunk.folder import CONFIG, PublishedModel
from whale.models.trunk.masking import mean_over_valid

REMEDY = "dvc repro train_reward makes the head anew; export a bundle again with --reward artifacts/PROFILE/reward/NAME"


class RewardHeadConfig(Config):
    """`feature_size`: tokens of a frame times the width of a latent. `instructions`: the tasks it knows.

    `bounds`: least and greatest reward recorded; predictions stay inside. `encoder`: names the encoder whose latents it
    reads (`encoder_digest`); another's mean something else. `r2`: of each dataset, on held-out recorded frames and on
    their reconstructions, so that nobody meets the head without them.
    """

    feature_size: int = Field(gt=0)
    action_size: int = Field(gt=0)
    hidden: int = Field(gt=0)
    instructions: list[str] = Field(min_length=1)
    bounds: list[float] = Field(min_length=2, max_length=2)
    encoder: str = Field(pattern="^[0-9a-f]{64}$")
    r2: dict[str, dict[str, float | None]] = {}


@dataclass(frozen=True)
class Seen:
    """What a step is judged by: features [..., F] of the episode's first frame, and of those before and after the
    action; the normalised action [..., A]; the number of the task [...]."""

    first: Tensor
    before: Tensor
    after: Tensor
    action: Tensor
    task: Tensor


class RewardHead(PublishedModel):
    """Two hidden layers on the frames' features and the normalised action, and an output for each task.

    It predicts symlog of the reward.
    """

    kind = "reward_head"
    config_class = RewardHeadConfig

    def __init__(self, config: RewardHeadConfig):
        super().__init__()
        self.config = config
        self.first = nn.Linear(3 * config.feature_size + config.action_size, config.hidden)
        self.task = nn.Embedding(len(config.instructions), config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.last = nn.Linear(config.hidden, len(config.instructions))

    @classmethod
    def restore(cls, directory: Path, device: torch.device | str = "cpu") -> Self:
        """As of every model. A head of an earlier release says which command makes it anew."""
        try:
            return super().restore(directory, device)
        except BadDataError as error:
            if error.file != Path(directory) / CONFIG:
                raise
            raise BadDataError(
                "not a reward head that this release reads", file=error.file, place=error.place,
                found=error.found or error.what, expected=error.expected, remedy=REMEDY,
            ) from None  # fmt: skip

    @classmethod
    def of_encoder(cls, folder: Path, encoder: str, device: torch.device | str = "cpu") -> Self:
        """The head in `folder`; RefusedError if it reads the latents of another encoder than this."""
        head = cls.restore(folder, device)
        if head.config.encoder != encoder:
            raise RefusedError("a reward head of another tokenizer", file=folder, place="encoder", expected=encoder,
                               found=head.config.encoder, remedy=REMEDY)  # fmt: skip
        return head

    def predict(self, seen: Seen) -> Tensor:
        """Rewards [...] in raw units, within the recorded bounds."""
        return symexp(self._symlog_reward(seen)).clamp(*self.config.bounds)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of symlog rewards over valid steps and both versions.

        features [B, T+1, V, F], first [B, F], task [B], action [B, T, A], action_valid [B, T], reward [B, T].
        """
        features_BTVF = batch["features"]
        batch_size, num_steps, num_versions = (*batch["action_valid"].shape, features_BTVF.shape[2])
        shape = (batch_size, num_steps, num_versions)
        found_BTV = self._symlog_reward(
            Seen(
                first=batch["first"][:, None, None].expand(*shape, -1),
                before=features_BTVF[:, :-1],
                after=features_BTVF[:, 1:],
                action=batch["action"][:, :, None].expand(*shape, -1),
                task=batch["task"][:, None, None].expand(shape),
            )
        )
        error_BTV = (found_BTV - symlog(batch["reward"])[..., None]).square()
        errors = [mean_over_valid(error, batch["action_valid"]) for error in error_BTV.unbind(-1)]
        return torch.stack(errors).mean(), {"recorded": errors[0], "reconstructed": errors[-1]}

    def tasks(self, instructions: Sequence[str]) -> Tensor:
        """Numbers [B] of the instructions; ConfigError for one that no reward was recorded for."""
        known = {text: number for number, text in enumerate(self.config.instructions)}
        for text in instructions:
            if text not in known:
                raise ConfigError("no reward was recorded for this task", place="instruction", found=text,
                                  expected=f"one of: {'; '.join(known)}")  # fmt: skip
        return self.placed(torch.tensor([known[text] for text in instructions]))

    def measured(self, r2: dict[str, dict[str, float | None]]) -> Self:
        """The same head, which says so of itself."""
        head = type(self)(self.config.model_copy(update={"r2": r2}))
        head.load_state_dict(self.state_dict())
        return head.to(self.device).eval()

    def _symlog_reward(self, seen: Seen) -> Tensor:
        inputs = [seen.after, seen.after - seen.before, seen.after - seen.first, seen.action]
        x = F.gelu(self.first(torch.cat(inputs, dim=-1)) + self.task(seen.task))
        x = x + F.gelu(self.second(x))
        return self.last(x).gather(-1, seen.task[..., None])[..., 0]


def symlog(values: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): rewards of 0 to 10 and rare large ones on one scale (DreamerV3)."""
    return values.sign() * values.abs().log1p()


def symexp(values: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return values.sign() * values.abs().expm1()
