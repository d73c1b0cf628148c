"""The task of training, or fine-tuning, the behavior model on pixels and actions (Eq. 4, P B.1)."""

from collections.abc import Mapping

import numpy as np
import torch

from whale.common.config import Config
from whale.common.errors import ConfigError
from whale.models.behavior.behavior import BehaviorConfig, BehaviorModel
from whale.training.loop.early_stopping import ValidationConfig
from whale.training.loop.optimizer import OptimizationConfig
from whale.training.loop.task import Loader, Task


class TrainBehaviorConfig(Config):
    """Section train_behavior."""

    model: BehaviorConfig
    optimization: OptimizationConfig
    validation: ValidationConfig


class FinetuneBehaviorConfig(Config):
    """Section finetune_behavior: every part trains on, from the pretrained weights."""

    optimization: OptimizationConfig


def steps_before(model: BehaviorConfig, window: int) -> int:
    """How many steps before a segment a sample begins: what the prior remembers beyond the window.

    Raises ConfigError for a memory that does not hold a window.
    """
    if model.memory is None:
        return 0
    if model.memory < window:
        raise ConfigError(
            "the prior remembers less than a segment holds",
            place="train_behavior.model.memory",
            found=model.memory,
            expected=f"at least segments.window, {window}",
        )
    return model.memory - window


def new_behavior_model(config: BehaviorConfig, seed: int) -> BehaviorModel:
    """A behavior model with seeded initial weights."""
    torch.manual_seed(seed)
    return BehaviorModel(config)


def train_behavior_task(
    model: BehaviorModel,
    config: TrainBehaviorConfig,
    loader: Loader,
    validation_batches: list[Mapping[str, np.ndarray]],
) -> Task:
    """Train with early stopping on held-out episodes: the paper's behavior model overfits."""
    return Task(model, loader, config.optimization, validation=(config.validation, validation_batches))


def finetune_behavior_task(model: BehaviorModel, config: FinetuneBehaviorConfig, loader: Loader) -> Task:
    """Train on for a fixed budget (P B.2)."""
    return Task(model, loader, config.optimization)
