"""Train once more from one saved state to a later one and compare every bit: did the machine compute what it should?

A bit that flips in memory, or a processor that adds wrongly, leaves no other trace. Training itself pays nothing for
this: the states are saved anyway.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from whale.common.errors import MissingInputError, RefusedError
from whale.common.files import MANIFEST_NAME, sha256_of_file, temporary_path
from whale.training.loop.communicator import Communicator
from whale.training.loop.loop import fit
from whale.training.loop.resume.checkpoint import StateFolder, TrainingState
from whale.training.loop.task import Hooks, Task

MAX_NAMED = 5


def recompute(
    task: Task, states: StateFolder, start: int, until: int, hooks: Hooks, say: Callable[[str], None] = print
) -> int:
    """0 if the steps from saved state `start` give saved state `until`, else 1 and a word on what differs.

    `hooks` must compute as the run did. Raises MissingInputError (no such state), MismatchError (a damaged one),
    RefusedError (`start` is not before `until`, or several workers added up their gradients).
    """
    recorded = _saved(states, until)
    found = _again(task, states, _saved(states, start), recorded, hooks, say)
    differing = differences(recorded.tensors, found.tensors)
    if not differing:
        say(f"steps {start} to {until - 1}: computed again, every bit of {len(found.tensors)} tensors is as saved")
        return 0
    say(f"steps {start} to {until - 1}: {len(differing)} of {len(found.tensors)} tensors are not as saved, by up to")
    for name, largest in differing[:MAX_NAMED]:
        say(f"  {largest:.3g}  {name}")
    pairs = zip(recorded.record["curve"], found.record["curve"], strict=False)
    step = next((int(saved["step"]) - 1 for saved, own in pairs if saved != own), None)
    say("  no recorded loss differs" if step is None else f"  the first loss that differs is that of step {step}")
    return 1


def differences(recorded: dict[str, Tensor], found: dict[str, Tensor]) -> list[tuple[str, float]]:
    """(name, largest difference) of tensors whose bits differ, the worst first; inf for what only one side has."""
    differing = []
    for name in sorted(recorded.keys() | found.keys()):
        one, other = recorded.get(name), found.get(name)
        if one is None or other is None or (one.shape, one.dtype) != (other.shape, other.dtype):
            differing.append((name, float("inf")))
        elif not torch.equal(_bits(one), _bits(other)):
            gap = (one.double() - other.double()).abs().nan_to_num(nan=torch.inf)
            differing.append((name, float(gap.max())))
    return sorted(differing, key=lambda pair: -pair[1])


def _again(
    task: Task,
    states: StateFolder,
    first: TrainingState,
    recorded: TrainingState,
    hooks: Hooks,
    say: Callable[[str], None],
) -> TrainingState:
    """The state after the same steps, from a folder that is gone afterwards."""
    workers = {first.record["world_size"], recorded.record["world_size"]}
    if not first.step < recorded.step or workers != {1}:
        raise RefusedError(
            "these steps cannot be computed again bit by bit", file=states.directory,
            found=f"steps {first.step} to {recorded.step}, by {sorted(workers)} workers",
            expected="an earlier and a later state, both of one worker",
        )  # fmt: skip
    done = first.step

    def follow(step: int) -> None:
        nonlocal done
        done = step

    with _folder_beside(states.directory) as folder:
        again = StateFolder(folder, say, states.identity)
        again.save(first)
        own_hooks = replace(hooks, on_step=follow, stop_requested=lambda: done + 1 >= recorded.step)
        fit(task, again, Communicator(), own_hooks)
        return _saved(again, recorded.step)


@contextmanager
def _folder_beside(directory: Path) -> Iterator[Path]:
    """A name that says whose it is: what a killed process leaves goes when the next stage starts."""
    folder = temporary_path(directory.parent / "again")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _saved(states: StateFolder, step: int) -> TrainingState:
    folder = states.directory / f"step-{step:08d}"
    if not (folder / MANIFEST_NAME).is_file():
        kept = sorted(path.name for path in states.directory.glob("step-*"))
        raise MissingInputError("no state of this step", file=folder, found=kept, expected=folder.name)
    return states.load(f"{folder.name}:{sha256_of_file(folder / MANIFEST_NAME)}")


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
