"""The one training loop of tokenizer, behavior model and dynamics: any model whose forward is `batch -> loss, logs`.

Everything random is keyed by (seed, step, global sample index) in the loader; the loop adds none. So a run resumed from
the newest verified state, and a run on another number of workers, take the same samples in the same order.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from whale.errors import BadDataError
from whale.models.folder import PublishedModel
from whale.training.checkpoint import (
    StateFolder,
    TrainingState,
    load_optimizer_tensors,
    optimizer_tensors,
    section,
)
from whale.training.communicator import Communicator
from whale.training.early_stopping import EarlyStopping, ValidationConfig
from whale.training.optimizer import OptimizationConfig, learning_rate, make_optimizer

CURVE_POINTS = 100


class Loader(Protocol):
    """Where batches come from: (step, this worker's slice of the global batch), from `step` on, for ever."""

    step: int

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]: ...

    def receipt(self, num_steps: int) -> dict: ...

    def position(self, step: int) -> dict: ...

    def resume(self, position: Mapping[str, Any]) -> None: ...


class Upkeep(Protocol):
    """Work around each step that is not gradient descent, with tensors that must survive a restart."""

    def before_step(self, step: int) -> None: ...

    def after_step(self, step: int, communicator: Communicator, optimizer: torch.optim.Optimizer) -> dict: ...

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


@dataclass
class FitResult:
    """The loss curve (a record every 1 % of the steps), steps done, where it resumed, and the kept validation."""

    curve: list[dict] = field(default_factory=list)
    steps: int = 0
    resumed_from: int = 0
    best: dict | None = None


def fit(
    task: Task,
    states: StateFolder,
    communicator: Communicator,
    *,
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    on_record: Callable[[dict], None] = lambda record: None,
    on_step: Callable[[int], None] = lambda step: None,
) -> FitResult:
    """Train `task.model` in place for its budget of steps, resuming from `states`.

    `wrap` puts the model on its device and into its process group; `on_record` gets each curve record and `on_step` the
    number of steps done, both on the lead worker only. Raises BadDataError on a loss or gradient that is not finite.
    """
    model = wrap(task.model)
    return _Fit(task, model, states, communicator, on_record, on_step).run()


class _Fit:
    def __init__(
        self,
        task: Task,
        model: nn.Module,
        states: StateFolder,
        communicator: Communicator,
        on_record: Callable[[dict], None],
        on_step: Callable[[int], None],
    ):
        self.task, self.model, self.states, self.communicator = task, model, states, communicator
        self.on_record, self.on_step = on_record, on_step
        self.config: OptimizationConfig = task.optimization
        self.optimizer = make_optimizer(task.model, self.config)
        self.device = next(task.model.parameters()).device
        self.stopping = EarlyStopping(task.validation[0].patience) if task.validation else None
        self.result = FitResult()

    def run(self) -> FitResult:
        start = self._resume()
        is_stopped = bool(self.stopping and self.stopping.validations_since >= self.stopping.patience)
        if start < self.config.training_steps and not is_stopped:
            self.task.loader.step = start
            for step, batch in self.task.loader:
                logs = self._step(step, self._to_device(batch))
                if self._close_step(step, logs):
                    break
        if self.stopping:
            self.stopping.restore_best(self.task.model)
            self.result.best = self.stopping.record()
        return self.result

    def _step(self, step: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Forward, backward, clip, update."""
        if self.task.upkeep:
            self.task.upkeep.before_step(step)
        rate = learning_rate(step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        loss, logs = self.model(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.task.model.parameters(), self.config.grad_clip)
        self._refuse_non_finite(step, loss, norm, batch)
        self.optimizer.step()
        logs = {"loss": loss.detach(), **logs, "grad_norm": norm, "lr": torch.tensor(rate)}
        if self.task.upkeep:
            logs |= self.task.upkeep.after_step(step, self.communicator, self.optimizer)
        return {name: value.detach().to(self.device) for name, value in logs.items()}

    def _close_step(self, step: int, logs: dict[str, Tensor]) -> bool:
        """Record, validate, save; True when training ends."""
        done = self.result.steps = step + 1
        is_last = done >= self.config.training_steps
        record_every = max(1, self.config.training_steps // CURVE_POINTS)
        record: dict[str, float] = {"step": done}
        if done % record_every == 0 or is_last:
            record |= self.communicator.mean(logs)
        if self.task.validation and self.stopping and self._is_validated(done):
            record["validation_loss"] = self._validate(self.task.validation[1])
            is_last |= self.stopping.observe(done, record["validation_loss"], self.task.model)
        if len(record) > 1:
            self.result.curve.append({name: _rounded(value) for name, value in record.items()})
            if self.communicator.is_lead:
                self.on_record(self.result.curve[-1])
        if done % self.config.save_every == 0 and not is_last and self.communicator.is_lead:
            self.states.save(self._state(done))
        if self.communicator.is_lead:
            self.on_step(done)
        return is_last

    def _is_validated(self, done: int) -> bool:
        every_steps = self.task.validation[0].every_steps if self.task.validation else 0
        return bool(every_steps) and (done % every_steps == 0 or done >= self.config.training_steps)

    @torch.no_grad()
    def _validate(self, batches: list[Mapping[str, np.ndarray]]) -> float:
        """Mean loss on the fixed held-out batches, the same on every worker."""
        self.task.model.eval()
        losses = [float(self.task.model(self._to_device(batch))[0]) for batch in batches]
        return sum(losses) / len(losses)

    def _state(self, done: int) -> TrainingState:
        tensors = {f"model.{name}": value for name, value in self.task.model.state_dict().items()}
        tensors |= optimizer_tensors(self.task.model, self.optimizer)
        record: dict = {"curve": self.result.curve, "loader": self.task.loader.position(done)}
        if self.task.upkeep:
            tensors |= {f"upkeep.{name}": value for name, value in self.task.upkeep.tensors().items()}
        if self.stopping:
            tensors |= {f"best.{name}": value for name, value in self.stopping.weights.items()}
            record["early_stopping"] = self.stopping.record()
        return TrainingState(done, tensors, record)

    def _resume(self) -> int:
        state = self.states.newest()
        if state is None:
            return 0
        self.task.loader.resume(state.record["loader"])
        self.task.model.load_state_dict(section(state.tensors, "model"))
        load_optimizer_tensors(self.task.model, self.optimizer, state.tensors)
        if self.task.upkeep:
            self.task.upkeep.load(section(state.tensors, "upkeep"))
        if self.stopping:
            self.stopping.load(state.record["early_stopping"], section(state.tensors, "best"))
        self.result = FitResult(state.record["curve"], state.step, state.step)
        return state.step

    def _to_device(self, batch: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {name: torch.as_tensor(value).to(self.device) for name, value in batch.items()}

    def _refuse_non_finite(self, step: int, loss: Tensor, norm: Tensor, batch: dict[str, Tensor]) -> None:
        if bool(torch.isfinite(loss)) and bool(torch.isfinite(norm)):
            return
        raise BadDataError(
            "the loss or its gradient is not finite",
            place=f"step {step}, samples {batch['sample_index'].tolist()}",
            found=f"loss {loss.item()}, gradient norm {norm.item()}",
            expected="finite numbers",
            remedy="look at these samples; the newest saved state is intact",
        )


def _rounded(value: float) -> float:
    """Six significant digits: enough for a curve."""
    return float(f"{value:.6g}")
