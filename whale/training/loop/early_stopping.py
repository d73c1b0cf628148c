"""Early stopping: keep the weights with the best held-out loss, stop when patience runs out (P B.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from pydantic import Field
from torch import Tensor, nn

from whale.common.config import Config
from whale.training.loop.resume.optimizer_state import placed_like, whole


class ValidationConfig(Config):
    """Validate every `every_steps` on `num_segments` fixed held-out segments; stop after `patience` without a best."""

    every_steps: int = Field(gt=0)
    num_segments: int = Field(gt=0)
    patience: int = Field(gt=0)


@dataclass
class EarlyStopping:
    """The best validation so far: its loss, its step and a copy of its weights."""

    patience: int
    best_loss: float | None = None
    best_step: int = 0
    validations_since: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def is_exhausted(self) -> bool:
        """True when training should stop."""
        return self.validations_since >= self.patience

    def observe(self, step: int, loss: float, weights: Mapping[str, Tensor]) -> bool:
        """Take in a validation of `weights` after `step` steps; True when training should stop."""
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.best_step, self.validations_since = loss, step, 0
            self.weights = {name: whole(value).detach().cpu().clone() for name, value in weights.items()}
        else:
            self.validations_since += 1
        return self.is_exhausted

    @torch.no_grad()
    def restore_best(self, model: nn.Module) -> None:
        """Put the best weights back into `model`."""
        if self.weights:
            own = model.state_dict()
            model.load_state_dict({name: placed_like(value, own[name]) for name, value in self.weights.items()})

    def record(self) -> dict:
        """The part that goes to JSON."""
        return {
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "validations_since": self.validations_since,
        }

    def load(self, record: dict, weights: dict[str, Tensor]) -> None:
        """The inverse of `record` and `weights`."""
        self.best_loss, self.best_step = record["best_loss"], record["best_step"]
        self.validations_since, self.weights = record["validations_since"], weights
