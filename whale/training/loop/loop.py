"""The one training loop of tokenizer, behavior model and dynamics: any model whose forward is `batch -> loss, logs`.

Everything random is keyed by (seed, step, global sample index) in the loader; the loop adds none. So a run resumed from
the newest verified state, and a run on another number of workers, take the same samples in the same order.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from whale.training.loop.average import WeightAverage
from whale.training.loop.communicator import Communicator
from whale.training.loop.early_stopping import EarlyStopping
from whale.training.loop.gradient_step import GradientStep
from whale.training.loop.non_finite import refusal
from whale.training.loop.optimizer import OptimizationConfig, make_optimizer
from whale.training.loop.resume.checkpoint import SavesBehind, StateFolder
from whale.training.loop.state import TrainedParts
from whale.training.loop.task import Hooks, Task
from whale.training.loop.throughput import Throughput

CURVE_POINTS = 100


@dataclass
class FitResult:
    """The loss curve (a record every 1 % of the steps), steps done, where it resumed, and the kept validation.

    `is_stopped`: ended early because it was asked to, with its state saved.
    """

    curve: list[dict] = field(default_factory=list)
    steps: int = 0
    resumed_from: int = 0
    best: dict | None = None
    is_stopped: bool = False


def fit(task: Task, states: StateFolder, communicator: Communicator, hooks: Hooks | None = None) -> FitResult:
    """Train `task.model` in place for its budget of steps, resuming from `states`.

    States are written while training goes on; when this ends, the last one is on the disk. Raises BadDataError on a
    loss or gradient that is not finite, CannotWriteError when a state can't be saved.
    """
    hooks = hooks or Hooks()
    return _Fit(task, hooks.wrap(task.model), states, communicator, hooks).run()


class _Fit:
    def __init__(
        self,
        task: Task,
        model: nn.Module,
        states: StateFolder,
        communicator: Communicator,
        hooks: Hooks,
    ):
        self.task, self.states, self.communicator, self.hooks = task, states, communicator, hooks
        self.config: OptimizationConfig = task.optimization
        self.optimizer = make_optimizer(task.model, self.config)
        self.stopping = EarlyStopping(task.validation[0].patience) if task.validation else None
        self.average = WeightAverage(task.model, self.config.ema_decay) if self.config.ema_decay else None
        self.gradient_step = GradientStep(model, task.model, self.optimizer, self.config, hooks.micro_batch)
        self.device = self.gradient_step.device
        self.parts = TrainedParts(task.model, self.optimizer, task.upkeep, self.stopping, self.average, communicator)
        self.speed = Throughput(self.device, self.config.batch_size, communicator.world_size)
        self.saves = SavesBehind()
        self.result = FitResult()

    def run(self) -> FitResult:
        start = self._resume()
        is_exhausted = bool(self.stopping and self.stopping.is_exhausted)
        if start < self.config.training_steps and not is_exhausted:
            try:
                self._train()
            except BaseException as error:
                self.saves.end_with(error)
                raise
            self.saves.finish()
        if self.average and not self.result.is_stopped:
            self.average.exchange()
        if self.stopping and not self.result.is_stopped:
            self.stopping.restore_best(self.task.model)
            self.result.best = self.stopping.record()
        return self.result

    def _train(self) -> None:
        batches = iter(self.task.loader)
        try:
            while True:
                with self.speed.waiting():
                    step, batch = next(batches)
                if self._close_step(step, self._step(step, self._to_device(batch))):
                    break
        finally:
            if hasattr(batches, "close"):
                batches.close()  # ends the loader's thread

    def _step(self, step: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradient and update; whether a stop was asked for is exchanged meanwhile, so that all stop at one step.

        A stop that is asked for during the gradient counts in the next step.
        """
        upkeep = self.task.upkeep
        if upkeep:
            upkeep.before_step(step)
        if self.speed.flops_of_segment is None:
            self.speed.measure(self.task.model, batch)
        is_stopped = self.communicator.any_soon(self.hooks.stop_requested())
        logs, all_finite = self.gradient_step.gradients(batch)
        self.result.is_stopped, is_finite = _read(is_stopped(), all_finite)
        if not is_finite:
            self._refuse(step, logs, batch)
        rate = self.gradient_step.update(step)
        if self.average:
            self.average.update(step)
        self.rate = rate
        if upkeep:
            average = self.average.values if self.average else {}
            logs |= upkeep.after_step(step, self.communicator, self.optimizer, average)
        self.hooks.on_alive()
        self.speed.step_done()
        return logs

    def _close_step(self, step: int, logs: dict[str, Tensor]) -> bool:
        """Record, validate, save; True when training ends."""
        done = self.result.steps = step + 1
        is_last = done >= self.config.training_steps
        record: dict[str, float] = {"step": done}
        if done % max(1, self.config.training_steps // CURVE_POINTS) == 0 or is_last:
            logs["lr"] = torch.tensor(self.rate)
            record |= self.communicator.mean({name: value.detach().to(self.device) for name, value in logs.items()})
        if self.task.validation and self.stopping and self._is_validated(done):
            with self.speed.paused():
                loss = self._validate(self.task.validation[1])
                # The lead's, for equal sums are not promised across devices and all must stop at the same step.
                record["validation_loss"] = float(self.communicator.agree(repr(loss)) or loss)
            is_last |= self.stopping.observe(done, record["validation_loss"], self._averaged_weights())
        if len(record) > 1:
            self._keep(record)
        self.result.is_stopped &= not is_last  # a run that is done needs no stop
        if (done % self.config.save_every == 0 or self.result.is_stopped) and not is_last:
            with self.speed.paused():
                self._save(done, self.states)
        if self.communicator.is_lead:
            self.hooks.on_step(done)
        return is_last or self.result.is_stopped

    def _keep(self, record: dict[str, float]) -> None:
        self.result.curve.append({name: _rounded(value) for name, value in record.items()})
        if self.communicator.is_lead:
            self.hooks.on_record(self.result.curve[-1] | self.speed.record())

    def _is_validated(self, done: int) -> bool:
        every_steps = self.task.validation[0].every_steps if self.task.validation else 0
        return bool(every_steps) and (done % every_steps == 0 or done >= self.config.training_steps)

    @torch.no_grad()
    def _validate(self, batches: list[Mapping[str, np.ndarray]]) -> float:
        """Mean loss on the fixed held-out batches, the same on every worker, in the precision of training."""
        self.task.model.eval()
        losses = []
        with self.average.applied() if self.average else nullcontext(), self.gradient_step.autocast():
            for batch in batches:
                losses.append(self.task.model(self._to_device(batch))[0].double())
                self.hooks.on_alive()
        return sum(torch.stack(losses).tolist()) / len(losses)

    def _averaged_weights(self) -> dict[str, Tensor]:
        """What would be published now."""
        return {**self.task.model.state_dict(), **(self.average.values if self.average else {})}

    def _resume(self) -> int:
        name = self.communicator.agree(self.states.newest_name() if self.communicator.is_lead else None)
        if name is None:
            return 0
        state = self.states.load(name)
        self.task.loader.resume(state.record["loader"])
        self.parts.load(state)
        self.result = FitResult(state.record["curve"], state.step, state.step)
        return state.step

    def _save(self, done: int, states: StateFolder) -> None:
        """Every worker takes part in putting the state together; the lead writes it, meanwhile training goes on."""
        state = self.parts.state(done, {"curve": list(self.result.curve), "loader": self.task.loader.position(done)})
        if self.communicator.is_lead:
            self.saves.save(states, state)
        self.hooks.on_alive()

    def _refuse(self, step: int, logs: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
        """Keep the state before the step for a replay, then raise."""
        self._save(step, StateFolder(replay_folder(self.states), self.states.say, self.states.identity))
        self.saves.finish()
        describe, autocast = self.task.loader.describe, self.gradient_step.autocast
        raise refusal(step, logs, batch, self.task.model, self.communicator, describe, autocast, self.hooks.replay)

    def _to_device(self, batch: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return to_device(batch, self.device)


def to_device(batch: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """A batch as tensors on `device`; to a GPU through pinned memory, so that the copy waits its turn there, not here.

    torch keeps the pinned copy until the GPU has read it. The loader's own arrays could not be lent that long: they are
    used again once nothing refers to them, and a copy under way refers to nothing.
    """
    tensors = {name: torch.as_tensor(value) for name, value in batch.items()}
    if device.type != "cuda":
        return {name: tensor.to(device) for name, tensor in tensors.items()}
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in tensors.items()}


def _read(flag: Tensor | bool, other: Tensor) -> tuple[bool, bool]:
    """Both, in one look: each look waits for the device, and a step affords one."""
    if isinstance(flag, bool):
        return flag, bool(other)
    first, second = torch.stack([flag, other]).tolist()
    return first, second


def replay_folder(states: StateFolder) -> Path:
    """Where the state before a refused step is kept."""
    return states.directory.parent / "replay"


def _rounded(value: float) -> float:
    """Six significant digits: enough for a curve."""
    return float(f"{value:.6g}")
