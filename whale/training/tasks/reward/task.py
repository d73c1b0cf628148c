"""The task of training a reward head on recorded and reconstructed frames (ours; P 7 leaves the reward open)."""

import torch
from pydantic import Field

from whale.common.config import Config
from whale.data.segments.actions import ACTION_SIZE
from whale.models.reward.reward import RewardHead, RewardHeadConfig
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.optimizer import OptimizationConfig
from whale.training.loop.task import Task
from whale.training.tasks.reward.segments import FeatureLoader, RewardSegments, as_loader


class TrainRewardConfig(Config):
    """One entry of train_reward."""

    hidden: int = Field(gt=0)
    optimization: OptimizationConfig


def train_reward_task(
    communicator: Communicator, config: TrainRewardConfig, inputs: PixelInputs, tokenizer: VideoTokenizer
) -> Task:
    """The head learns; the tokenizer only describes frames."""
    num_features = tokenizer.config.num_tokens * tokenizer.config.latent_dim
    torch.manual_seed(inputs.seed)
    head = RewardHead(RewardHeadConfig(feature_size=num_features, action_size=ACTION_SIZE, hidden=config.hidden))
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="reward", kind=RewardSegments)
    return Task(head, as_loader(FeatureLoader(loader, tokenizer)), config.optimization)
