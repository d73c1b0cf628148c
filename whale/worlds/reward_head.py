"""A reward read off frames: tokenizer latents of the first and the present frame, and the task -> the recorded reward.

The rewards of many datasets depend on where an episode began (progress since then), hence the first frame.
Shapes: B rows, N tokens, E latent width, K tasks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn

from whale.common.config import Config
from whale.common.errors import ConfigError, RefusedError
from whale.models.trunk.folder import PublishedModel


class RewardHeadConfig(Config):
    """`instructions`: the tasks it knows. `bounds`: least and greatest reward recorded; predictions stay inside.

    `tokenizer`: sha256 of the weights of the tokenizer whose latents it reads; another's mean something else.
    `r2`: on held-out recorded frames and on their reconstructions, so that nobody meets the head without them.
    """

    num_tokens: int = Field(gt=0)
    latent_dim: int = Field(gt=0)
    hidden: int = Field(gt=0)
    instructions: list[str] = Field(min_length=1)
    bounds: list[float] = Field(min_length=2, max_length=2)
    tokenizer: str = Field(pattern="^[0-9a-f]{64}$")
    r2: dict[str, float | None] = {}


class RewardHead(PublishedModel):
    """A two-layer network whose second layer is the task's own."""

    kind = "frame_reward_head"
    config_class = RewardHeadConfig

    def __init__(self, config: RewardHeadConfig):
        super().__init__()
        self.config = config
        size = config.num_tokens * config.latent_dim
        self.stem = nn.Linear(2 * size, config.hidden)
        self.middle = nn.Linear(config.hidden, config.hidden)
        self.task = nn.Embedding(len(config.instructions), config.hidden)
        self.head = nn.Linear(config.hidden, len(config.instructions))

    @classmethod
    def of_world(cls, folder: Path, digests: Mapping[str, str], device: str = "cpu") -> Self:
        """The head in `folder`; RefusedError if it reads another tokenizer than the world's of these `digests`."""
        head = cls.restore(folder, device)
        if head.config.tokenizer != digests["tokenizer"]:
            raise RefusedError(
                "a reward head of another tokenizer", file=folder, place="tokenizer", found=head.config.tokenizer,
                expected=digests["tokenizer"], remedy="fit one on this world: docs/how-to/evaluate-a-policy.md",
            )  # fmt: skip
        return head

    def forward(self, first_BNE: Tensor, now_BNE: Tensor, task_B: Tensor) -> Tensor:
        """Reward [B] of being at `now` in an episode that began at `first`; not clipped."""
        now_BD, first_BD = now_BNE.flatten(1), first_BNE.flatten(1)
        hidden_BH = nn.functional.gelu(self.stem(torch.cat([now_BD, now_BD - first_BD], dim=1)) + self.task(task_B))
        hidden_BH = hidden_BH + nn.functional.gelu(self.middle(hidden_BH))
        return self.head(hidden_BH).gather(1, task_B[:, None])[:, 0]

    def predict(self, first_BNE: Tensor, now_BNE: Tensor, task_B: Tensor) -> Tensor:
        """Within the recorded bounds."""
        return self(first_BNE, now_BNE, task_B).clamp(*self.config.bounds)

    def tasks(self, instructions: Sequence[str]) -> Tensor:
        """Numbers [B] of the instructions; ConfigError for one that no reward was recorded for."""
        known = {text: number for number, text in enumerate(self.config.instructions)}
        for text in instructions:
            if text not in known:
                raise ConfigError("no reward was recorded for this task", place="instruction", found=text,
                                  expected=f"one of: {'; '.join(known)}")  # fmt: skip
        return self.placed(torch.tensor([known[text] for text in instructions]))
