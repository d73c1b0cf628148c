"""The task of training, or fine-tuning, a dynamics model on stored tokens, actions and z (Eq. 6)."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field

from whale.common.config import Config
from whale.data.segments.actions import ACTION_SIZE
from whale.models.dynamics.dynamics import Dynamics, DynamicsConfig
from whale.models.trunk.st_transformer import STTransformerConfig
from whale.training.loop.optimizer import OptimizationConfig
from whale.training.loop.task import Loader, Task


class TrainDynamicsConfig(Config):
    """One entry of train_dynamics: a size, with or without z. `training_steps: 0` publishes the initial weights.

    action_mode, sampler, maskgit_passes, z_input: as DynamicsConfig has them; the defaults are the paper's model.

    seed: of initial weights, order and noise; null takes that of all stages. Members of an ensemble differ by it and
    nothing else.

    data_fraction: of the episodes of each dataset, in (0, 1]; which ones is a keyed choice by the pipeline's seed, and
    a smaller fraction is contained in a larger one (whale/data/loading/data_fraction.py). Steps are counted alike.

    That untrained entry is what "from scratch" fine-tunes from: every fine-tuning starts from an entry by name.
    """

    unspoken: ClassVar[frozenset[str]] = frozenset({"seed", "data_fraction"})
    size: STTransformerConfig
    behavior_conditioning: bool
    copy_bias: float | None
    action_mode: Literal["add", "prepend"] = "add"
    sampler: Literal["parallel", "maskgit"] = "parallel"
    maskgit_passes: int = Field(default=8, gt=0)
    z_input: Literal["sample", "probabilities"] = "sample"
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    data_fraction: float = Field(default=1.0, gt=0, le=1)
    optimization: OptimizationConfig


class FinetuneDynamicsConfig(Config):
    """One entry of finetune_dynamics: `initial` names the entry of train_dynamics to go on from, with its size."""

    initial: str = Field(pattern="^[a-z0-9_]+$")  # part of a path on a command line
    optimization: OptimizationConfig


def new_dynamics(config: TrainDynamicsConfig, *, num_codes: int, z_shape: tuple[int, int], seed: int) -> Dynamics:
    """A dynamics model with seeded initial weights, the same for every entry of one size, with and without z.

    z_shape: (K, M) of the behavior model.
    """
    torch.manual_seed(seed)
    return Dynamics(
        DynamicsConfig(
            num_codes=num_codes,
            action_size=ACTION_SIZE,
            z_size=math.prod(z_shape),
            z_categories=z_shape[0],
            behavior_conditioning=config.behavior_conditioning,
            copy_bias=config.copy_bias,
            action_mode=config.action_mode,
            sampler=config.sampler,
            maskgit_passes=config.maskgit_passes,
            z_input=config.z_input,
            trunk=config.size,
        )
    )


def dynamics_task(model: Dynamics, optimization: OptimizationConfig, loader: Loader) -> Task:
    """Train every weight; tokenizer and prior are frozen by construction: only their outputs are here."""
    return Task(model, loader, optimization)
