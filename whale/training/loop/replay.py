"""Look at one optimizer step again: the loss of each sample, where it comes from, which gradients are not finite."""

from collections.abc import Callable

import torch

from whale.common.errors import MissingInputError
from whale.training.loop.checkpoint import StateFolder
from whale.training.loop.communicator import Communicator
from whale.training.loop.gradient_step import GradientStep
from whale.training.loop.loop import replay_folder
from whale.training.loop.optimizer import make_optimizer
from whale.training.loop.state import TrainedParts
from whale.training.loop.task import Task


def replay(task: Task, states: StateFolder, step: int, say: Callable[[str], None] = print) -> int:
    """Compute 0-based `step` from the state before it, change nothing; 0 when all is finite, else 1.

    A refused step left its state in `replay/`; any other step must have been saved. Raises MissingInputError.
    """
    optimizer = make_optimizer(task.model, task.optimization)
    kept = StateFolder(replay_folder(states), say, states.identity)
    state = next((found for found in (kept.newest(), states.newest()) if found and found.step == step), None)
    if state is None and step:
        raise MissingInputError("no state before this step", file=kept.directory, expected=f"step-{step:08d}")
    if state is not None:
        task.loader.resume(state.record["loader"])
        TrainedParts(task.model, optimizer, task.upkeep, None, None, Communicator()).load(state)
    if task.upkeep:
        task.upkeep.before_step(step)
    _, arrays = next(iter(task.loader))
    batch = {name: torch.as_tensor(value) for name, value in arrays.items()}
    _say_samples(task, batch, say)
    logs, is_finite = GradientStep(task.model, task.model, optimizer, task.optimization, None).gradients(batch)
    say(f"step {step}: loss {logs['loss'].item():.6g}, gradient norm {logs['grad_norm'].item():.6g}")
    for name, parameter in task.model.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            say(f"  not finite: gradient of {name}")
    return 0 if is_finite else 1


@torch.no_grad()
def _say_samples(task: Task, batch: dict[str, torch.Tensor], say: Callable[[str], None]) -> None:
    """One line per sample: its own loss and its source."""
    task.model.eval()
    for row, source in enumerate(task.loader.describe(batch["sample_index"].tolist())):
        loss = task.model({name: value[row : row + 1] for name, value in batch.items()})[0].item()
        say(f"  loss {loss:.6g}  {source}")
