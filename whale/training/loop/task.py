"""What a training is made of: a model, a loader, an optimization; and how whoever runs it is told."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from whale.models.trunk.folder import PublishedModel
from whale.training.loop.communicator import Communicator
from whale.training.loop.early_stopping import ValidationConfig
from whale.training.loop.optimizer import OptimizationConfig


class Loader(Protocol):
    """Where batches come from: (step, this worker's slice of the global batch), from `step` on, for ever."""

    step: int

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]: ...

    def receipt(self, num_steps: int) -> dict: ...

    def position(self, step: int) -> dict: ...

    def resume(self, position: Mapping[str, Any]) -> None: ...

    def describe(self, samples: list[int]) -> list[str]: ...


class Upkeep(Protocol):
    """Work around each step that is not gradient descent, with tensors that must survive a restart."""

    def before_step(self, step: int) -> None: ...

    def after_step(
        self,
        step: int,
        communicator: Communicator,
        optimizer: torch.optim.Optimizer,
        average: Mapping[str, Tensor],
    ) -> dict: ...

    def tensors(self) -> dict[str, Tensor]: ...

    def load(self, tensors: dict[str, Tensor]) -> None: ...


@dataclass
class Task:
    """One model and what it trains on. `validation` = (its config, its fixed batches) enables early stopping."""

    model: PublishedModel
    loader: Loader
    optimization: OptimizationConfig
    upkeep: Upkeep | None = None
    validation: tuple[ValidationConfig, list[Mapping[str, np.ndarray]]] | None = None


@dataclass(frozen=True)
class Hooks:
    """What a worker's environment gives the loop; nothing here changes what is learned.

    `wrap` puts the model on its device and into its process group. `stop_requested` is asked once per step; the run
    then saves and ends, on every worker at the same step. `on_record` gets each curve record with timings and
    `on_step` the number of steps done, on the lead worker; `on_alive` marks each step on every worker. `replay` is the
    command that looks at step `<step>` again.
    """

    wrap: Callable[[PublishedModel], nn.Module] = lambda model: model
    micro_batch: int | None = None  # rows per forward pass; None: a worker's whole slice
    stop_requested: Callable[[], bool] = lambda: False
    on_record: Callable[[dict], None] = lambda record: None
    on_step: Callable[[int], None] = lambda step: None
    on_alive: Callable[[], None] = lambda: None
    replay: str = "the stage's command with WHALE_REPLAY_STEP set to this step"
