"""What a restart needs, out of the parts of a run and back into them.

Tensors: `model.*`, `optimizer.<moment>.*`, `upkeep.*`, `best.*` (early stopping), `average.*`, `random` [W, bytes] (the
generator of every rank). The schedule and all noise follow from the number of the step.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from whale.models.trunk.folder import PublishedModel
from whale.training.loop.average import WeightAverage
from whale.training.loop.communicator import Communicator
from whale.training.loop.early_stopping import EarlyStopping
from whale.training.loop.resume.checkpoint import TrainingState, prefixed, section
from whale.training.loop.resume.optimizer_state import load_optimizer_tensors, on_host, optimizer_tensors, placed_like
from whale.training.loop.task import Upkeep


class TrainedParts:
    """Model, optimizer, upkeep, early stopping, average, random generators of one run."""

    def __init__(
        self,
        model: PublishedModel,
        optimizer: torch.optim.Optimizer,
        upkeep: Upkeep | None,
        stopping: EarlyStopping | None,
        average: WeightAverage | None,
        communicator: Communicator,
    ):
        self.model, self.optimizer, self.upkeep = model, optimizer, upkeep
        self.stopping, self.average, self.communicator = stopping, average, communicator

    def state(self, done: int, record: Mapping[str, Any]) -> TrainingState:
        """The state after `done` steps, with the loop's own `record` (JSON); every worker must call it.

        Shards and generators are gathered. The tensors are copies in this machine's memory, which training on does not
        change; the workers that do not lead get none.
        """
        tensors = prefixed(dict(self.model.state_dict()), "model")
        tensors |= prefixed(optimizer_tensors(self.model, self.optimizer), "optimizer")
        record = {**record, "world_size": self.communicator.world_size}
        if self.upkeep:
            tensors |= prefixed(self.upkeep.tensors(), "upkeep")
        if self.average:
            tensors |= prefixed(self.average.values, "average")
        if self.stopping:
            tensors |= prefixed(self.stopping.weights, "best")
            record["early_stopping"] = self.stopping.record()
        kept = on_host(tensors, self.communicator.is_lead)
        return TrainingState(done, kept | {"random": self._gathered_generators()}, record)

    @torch.no_grad()
    def load(self, state: TrainingState) -> None:
        """The inverse of `state`, for any number of workers."""
        saved = section(state.tensors, "model")
        own = self.model.state_dict()
        self.model.load_state_dict({name: placed_like(value, own[name]) for name, value in saved.items()})
        load_optimizer_tensors(self.model, self.optimizer, section(state.tensors, "optimizer"))
        if self.upkeep:
            self.upkeep.load(section(state.tensors, "upkeep"))
        if self.average:
            for name, value in section(state.tensors, "average").items():
                self.average.values[name] = placed_like(value, own[name])
        if self.stopping:
            self.stopping.load(state.record["early_stopping"], section(state.tensors, "best"))
        self._restore_generator(state.tensors["random"])

    def _gathered_generators(self) -> Tensor:
        row = torch.get_rng_state()[None].to(self.communicator.device)
        return self.communicator.gather(row).cpu()

    def _restore_generator(self, rows: Tensor) -> None:
        """The loop and the loaders draw nothing from it; this keeps a model that would from repeating its draws."""
        rank = self.communicator.rank
        torch.set_rng_state(rows[rank if rank < len(rows) else 0].clone())
