"""What a model cost to train, as its own folder and its own arithmetic say: no clock, so equal runs give equal numbers.

Shapes: T window, R resolution, N tokens per frame, K x M categories x classes of z.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from whale.baselines.rssm.rssm import RSSM, noise_size
from whale.common.json_files import read_json
from whale.data.segments.actions import ACTION_SIZE
from whale.evaluation.measuring.rollouts.stack import Stack

# FLOP of one training step of a model on a batch.
Flops = Callable[[nn.Module, Mapping[str, Tensor]], float]


@dataclass(frozen=True)
class Budget:
    """`parameters`; `steps` and `segments` drawn for them; `flops` of all steps, three forward passes a segment."""

    parameters: int
    steps: int
    segments: int
    flops: float

    def as_metrics(self, prefix: str = "") -> dict[str, object]:
        """Flat keys."""
        return {f"{prefix}{name}": value for name, value in vars(self).items()}

    @classmethod
    def total(cls, parts: Iterable["Budget"]) -> "Budget":
        """Of models that act together."""
        rows = [vars(part).values() for part in parts]
        return cls(*(sum(column) for column in zip(*rows, strict=True)))


def budget_of_rssm(folder: Path, model: RSSM, window: int, flops: Flops) -> Budget:
    """Of the recurrent model in `folder`."""
    config = model.config
    row = _segment(window, noise_size(config, window), model.device)
    return _budget(folder, model, row | _frames(window, config.resolution, model.device), flops)


def budget_of_ours(models: Path, stack: Stack, name: str, window: int, flops: Flops) -> Budget:
    """Of tokenizer, behavior model and the dynamics `name` together, all below the folder `models`."""
    config, device = stack.behavior.config, stack.tokenizer.device
    row = _segment(window, config.num_categories, device)
    seen = row | _frames(window, config.resolution, device)
    tokens = torch.zeros(1, window + 1, stack.tokenizer.config.num_tokens, dtype=torch.int64, device=device)
    z = torch.zeros(1, window, *config.z_shape, device=device).log_softmax(-1)
    stored = row | {"tokens": tokens, "z_log_probs": z}
    return Budget.total(
        [
            _budget(models / "tokenizer", stack.tokenizer, seen, flops),
            _budget(models / "behavior", stack.behavior, seen, flops),
            _budget(models / "dynamics" / name, stack.dynamics[name], stored, flops),
        ]
    )


def _budget(folder: Path, model: nn.Module, row: Mapping[str, Tensor], flops: Flops) -> Budget:
    """A folder without a record of its training says 0: nothing is known of it."""
    steps = read_json(path)["steps"] if (path := folder / "training.json").is_file() else 0
    segments = read_json(path).get("num_draws", 0) if (path := folder / "receipt.json").is_file() else 0
    parameters = sum(each.numel() for each in model.parameters())
    return Budget(parameters, steps, segments, segments * flops(model, row))


def _segment(window: int, noise: int, device: torch.device) -> dict[str, Tensor]:
    """One segment as a training reads it, without frames or tokens: only its shapes count."""
    return {
        "action": torch.zeros(1, window, ACTION_SIZE, device=device),
        "action_valid": torch.ones(1, window, dtype=torch.bool, device=device),
        "action_mask": torch.ones(1, ACTION_SIZE, dtype=torch.bool, device=device),
        "num_frames": torch.full((1,), window + 1, device=device),
        "uniform": torch.zeros(1, window, noise, device=device),
    }


def _frames(window: int, resolution: int, device: torch.device) -> dict[str, Tensor]:
    return {"frames": torch.zeros(1, window + 1, resolution, resolution, 3, dtype=torch.uint8, device=device)}
