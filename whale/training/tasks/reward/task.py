"""The task of training a reward head on recorded and reconstructed frames (ours; P 7 leaves the reward open)."""

from typing import Literal

import torch
from pydantic import Field

from whale.common.config import Config
from whale.common.errors import BadDataError
from whale.common.limits import TASKS
from whale.data.segments.actions import ACTION_SIZE
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.reward.reading import encoder_digest
from whale.reward.reward import RewardHead, RewardHeadConfig
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.optimizer import OptimizationConfig
from whale.training.loop.task import Task
from whale.training.tasks.reward.segments import FeatureLoader, RewardSegments, as_loader

SMALLEST_RANGE = 1.0e-6


class TrainRewardConfig(Config):
    """One entry of train_reward. `role`: of the datasets whose rewards it learns.

    `test_split`: where R^2 is measured, on at most `test_episodes` of each dataset.
    """

    role: Literal["pretrain", "finetune"]
    hidden: int = Field(gt=0)
    test_split: str
    test_episodes: int = Field(gt=0)
    optimization: OptimizationConfig


def train_reward_task(
    communicator: Communicator, config: TrainRewardConfig, inputs: PixelInputs, tokenizer: VideoTokenizer
) -> Task:
    """The head learns; the tokenizer only describes frames.

    BadDataError for rewards that never change, or more instructions than there are tasks: there is nothing to learn.
    """
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="reward", kind=RewardSegments)
    segments = loader.segments
    assert isinstance(segments, RewardSegments)
    low, high = segments.bounds()
    if high - low < SMALLEST_RANGE:
        raise BadDataError("no reward to learn from", file=inputs.shards, place="split train",
                           found="rewards that never change", expected="recorded rewards")  # fmt: skip
    if len(segments.instructions) > TASKS:
        raise BadDataError("more instructions than a reward head knows tasks", file=inputs.shards, place="split train",
                           found=len(segments.instructions), expected=f"<= {TASKS}")  # fmt: skip
    torch.manual_seed(inputs.seed)
    head = RewardHead(
        RewardHeadConfig(
            feature_size=tokenizer.config.num_tokens * tokenizer.config.latent_dim, action_size=ACTION_SIZE,
            hidden=config.hidden, instructions=segments.instructions, bounds=[low, high],
            encoder=encoder_digest(tokenizer),
        )
    )  # fmt: skip
    return Task(head, as_loader(FeatureLoader(loader, tokenizer)), config.optimization)
