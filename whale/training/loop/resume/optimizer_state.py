"""What AdamW remembers, by the names of its parameters, and any tensor of a training brought to one place and back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


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
