"""The task of training the recurrent model that ours is compared with, on the same frames and actions."""

import torch

from whale.baselines.rssm.rssm import RSSM, RSSMConfig
from whale.common.config import Config
from whale.training.loop.optimizer import OptimizationConfig
from whale.training.loop.task import Loader, Task


class TrainRSSMConfig(Config):
    """One entry of train_rssm."""

    model: RSSMConfig
    optimization: OptimizationConfig


def new_rssm(config: RSSMConfig, seed: int) -> RSSM:
    """A recurrent model with seeded initial weights."""
    torch.manual_seed(seed)
    return RSSM(config)


def train_rssm_task(model: RSSM, config: TrainRSSMConfig, loader: Loader) -> Task:
    """Train every weight, end to end: it has no stages."""
    return Task(model, loader, config.optimization)
