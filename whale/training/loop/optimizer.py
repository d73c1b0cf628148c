"""AdamW with linear warm-up and cosine decay, as every table of the paper prints it."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from whale.common.config import Config


class OptimizationConfig(Config):
    """Tables 5, 6, 8; `batch_size` counts segments per optimizer step over ALL workers.

    `precision` bfloat16 computes the forward pass under autocast; weights and optimizer stay float32. With `ema_decay`
    an exponential moving average of the weights is what is validated and published; 0 publishes the weights themselves.
    """

    batch_size: int = Field(gt=0)
    training_steps: int = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    max_lr: float = Field(gt=0)
    min_lr: float = Field(ge=0)
    weight_decay: float = Field(ge=0)
    grad_clip: float = Field(gt=0)
    save_every: int = Field(gt=0)
    precision: Literal["float32", "bfloat16"]
    ema_decay: float = Field(ge=0, lt=1)


def learning_rate(step: int, config: OptimizationConfig) -> float:
    """The rate of 0-based `step`: linear 0 -> max_lr over warmup_steps, then cosine to min_lr at training_steps."""
    if step < config.warmup_steps:
        return config.max_lr * (step + 1) / config.warmup_steps
    span = max(config.training_steps - config.warmup_steps, 1)
    phase = min((step - config.warmup_steps) / span, 1.0)
    return config.min_lr + 0.5 * (config.max_lr - config.min_lr) * (1 + math.cos(math.pi * phase))


def make_optimizer(model: nn.Module, config: OptimizationConfig) -> torch.optim.AdamW:
    """AdamW, betas (0.9, 0.9) (beta2 is the paper's), eps 1e-8; only matrices decay.

    LayerNorm, biases, embeddings and the codebook do not; frozen parameters are left out.
    """
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and not name.endswith(("codebook", "tokens.weight"))
            (decay if is_matrix else no_decay).append(parameter)
    groups: list[dict] = [
        {"params": decay, "weight_decay": config.weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, lr=config.max_lr, betas=(0.9, 0.9), eps=1.0e-8, fused=True)
