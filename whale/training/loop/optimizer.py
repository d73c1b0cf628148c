"""AdamW with linear warm-up and cosine decay, as every table of the paper prints it."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from whale.common.config import Config

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


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


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts of AdamW under `<moment>.<parameter name>`, where and as they are."""
    return {
        f"{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`. The fused kernel reads counts and moments where the parameter lies."""
    for name, parameter in model.named_parameters():
        for key in MOMENTS:
            if (value := tensors.get(f"{key}.{name}")) is not None:
                is_count = key == "step"  # a scalar, which is never sharded
                placed = value.to(parameter.device, copy=True) if is_count else placed_like(value, parameter)
                optimizer.state[parameter][key] = placed


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together (every worker must call it), any other as it is."""
    full_tensor = getattr(tensor, "full_tensor", None)  # of a DTensor, whose import costs every start half a second
    return tensor if full_tensor is None else full_tensor()


def on_host(tensors: Mapping[str, Tensor], is_lead: bool) -> dict[str, Tensor]:
    """Copies in this machine's memory, whole, on the lead; others (all must call it) only help to put shards together.

    One after the other: all at once, whole weights and moments are more than a card holds beside a training.
    """
    kept = {}
    for name, tensor in tensors.items():
        put_together = whole(tensor)
        if is_lead:
            kept[name] = put_together.detach().to("cpu", copy=True)
    return kept


def placed_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A copy of `tensor` on the device of `parameter`, and sharded as it is."""
    if not hasattr(parameter, "full_tensor"):
        return tensor.to(parameter.device, copy=True)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]
