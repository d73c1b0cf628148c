"""Look at one optimizer step again: the loss of each sample, where it comes from, which gradients are not finite."""

from collections.abc import Callable

import torch

from whale.common.errors import MissingInputError
from whale.training.loop.communicator import Communicator
from whale.training.loop.gradient_step import GradientStep
from whale.training.loop.loop import replay_folder, to_device
from whale.training.loop.optimizer import make_optimizer
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.state import TrainedParts
from whale.training.loop.task import Hooks, Task


def replay(
    task: Task, states: StateFolder, step: int, hooks: Hooks | None = None, say: Callable[[str], None] = print
) -> int:
    """Compute 0-based `step` from the state before it, change nothing; 0 when all is finite, else 1.

    `hooks.wrap` puts the model where the run had it, and `hooks.micro_batch` cuts the batch as small. A refused step
    left its state in `replay/`; any other step must have been saved. Raises MissingInputError.
    """
    hooks = hooks or Hooks()
    model = hooks.wrap(task.model)
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
    gradient_step = GradientStep(model, task.model, optimizer, task.optimization, hooks.micro_batch)
    batch = to_device(arrays, gradient_step.device)
    _say_samples(task, batch, gradient_step, say)
    logs, is_finite = gradient_step.gradients(batch)
    say(f"step {step}: loss {logs['loss'].item():.6g}, gradient norm {logs['grad_norm'].item():.6g}")
    for name, parameter in task.model.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            say(f"  not finite: gradient of {name}")
    return 0 if is_finite else 1


@torch.no_grad()
def _say_samples(
    task: Task, batch: dict[str, torch.Tensor], gradient_step: GradientStep, say: Callable[[str], None]
) -> None:
    """One line per sample: its own loss and its source."""
    task.model.eval()
    for row, source in enumerate(task.loader.describe(batch["sample_index"].tolist())):
        with gradient_step.autocast():
            loss = task.model({name: value[row : row + 1] for name, value in batch.items()})[0].item()
        say(f"  loss {loss:.6g}  {source}")
