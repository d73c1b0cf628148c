"""A tiny real training run on batches made from the step number alone, as the real loader's are."""

import json
from pathlib import Path

import tiny_models as tiny

from whale.training.loop.communicator import Communicator
from whale.training.loop.early_stopping import ValidationConfig
from whale.training.loop.loop import FitResult, fit
from whale.training.loop.optimizer import OptimizationConfig
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.task import Hooks, Task
from whale.training.tasks.tokenizer.codebook import CodebookConfig, CodebookUpkeep

GLOBAL_BATCH = 4


class StepLoader:
    """The batch of a step is a pure function of the step; a rank takes its contiguous slice.

    `num_batches` repeats that many batches: random tokens that never return teach nothing.
    """

    def __init__(self, make_batch, rank: int = 0, world_size: int = 1, num_batches: int | None = None):
        size = GLOBAL_BATCH // world_size
        self.make_batch, self.rows, self.step = make_batch, slice(rank * size, (rank + 1) * size), 0
        self.num_batches = num_batches
        self.seen: list[int] = []

    def __iter__(self):
        while True:
            self.seen.append(self.step)
            seed = self.step % self.num_batches if self.num_batches else self.step
            batch = self.make_batch(size=GLOBAL_BATCH, seed=seed)
            batch["sample_index"] = batch["sample_index"] + self.step * GLOBAL_BATCH
            yield self.step, {name: value.numpy()[self.rows] for name, value in batch.items()}
            self.step += 1

    def position(self, step: int) -> dict:
        return {"step": step}

    def resume(self, position: dict) -> None:
        self.step = position["step"]

    def receipt(self, num_steps: int) -> dict:
        return {"draws": num_steps * GLOBAL_BATCH}

    def describe(self, samples: list[int]) -> list[str]:
        return [f"sample {index}: row {index % GLOBAL_BATCH} of its batch" for index in samples]


def optimization(training_steps: int, save_every: int = 2) -> OptimizationConfig:
    return OptimizationConfig(
        batch_size=GLOBAL_BATCH,
        training_steps=training_steps,
        warmup_steps=2,
        max_lr=3e-3,
        min_lr=1e-4,
        weight_decay=0.01,
        grad_clip=1.0,
        precision="float32",
        ema_decay=0.0,
        save_every=save_every,
    )


def task(kind: str, training_steps: int = 10, communicator: Communicator | None = None) -> Task:
    communicator = communicator or Communicator()
    make_batch = tiny.token_batch if kind == "dynamics" else tiny.pixel_batch
    loader = StepLoader(make_batch, communicator.rank, communicator.world_size)
    model = getattr(tiny, kind)()
    upkeep, validation = None, None
    if kind == "tokenizer":
        config = CodebookConfig(codebook_warmup_steps=3, dead_code_steps=2)
        upkeep = CodebookUpkeep(model, config, seed=0, training_steps=training_steps)
    if kind == "behavior":
        held_out = [{name: value.numpy() for name, value in tiny.pixel_batch(seed=99).items()}]
        validation = (ValidationConfig(every_steps=3, num_segments=3, patience=2), held_out)
    return Task(model, loader, optimization(training_steps), upkeep, validation)


def run(
    kind: str, directory: Path, training_steps: int = 10, stop_after: int | None = None, num_batches: int | None = None
) -> tuple[Task, FitResult]:
    """Train; with `stop_after` an exception ends the run right after that step, as a crash would."""
    trained = task(kind, training_steps)
    trained.loader.num_batches = num_batches

    def crash(step: int) -> None:
        if step == stop_after:
            raise KeyboardInterrupt

    return trained, fit(trained, StateFolder(directory), Communicator(), Hooks(on_step=crash))


def dumps(value: object) -> str:
    return json.dumps(value, sort_keys=True)
