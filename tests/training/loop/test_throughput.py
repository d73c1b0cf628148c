"""Counting arithmetic leaves a compiled training alone; a compiled training ends where a plain one does."""

from pathlib import Path

import pytest
import tiny_training as runs
import torch

from whale.training.loop.communicator import Communicator
from whale.training.loop.loop import fit
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.task import Hooks
from whale.training.loop.wrapping import compile_blocks

STEPS = 4


def trained(kind: str, folder: Path, backend: str | None, stop_at: int | None = None) -> list[dict]:
    task, done, speeds = runs.task(kind, STEPS), [], []

    def wrap(model):
        if backend:
            compile_blocks(model, backend)
        return model

    hooks = Hooks(
        wrap=wrap, on_step=done.append, stop_requested=lambda: len(done) + 1 == stop_at, on_record=speeds.append
    )
    curve = fit(task, StateFolder(folder), Communicator(), hooks).curve
    assert speeds[0]["speed/teraflops"] > 0
    return curve


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("kind", ["dynamics", "tokenizer", "behavior"])
def test_a_compiled_training_takes_its_steps_counts_its_flop_and_resumes(kind, backend, tmp_path):
    """Every one died in its first step: the counter made the compiler skip what `fullgraph` insists on."""
    expected = [record["loss"] for record in trained(kind, tmp_path / "plain", None)]
    found = [record["loss"] for record in trained(kind, tmp_path / "compiled", backend)]
    assert found == pytest.approx(expected, rel=1e-4)
    if backend == "aot_eager":  # its backward pass is compiled, too; a second process of it shows nothing more
        return
    trained(kind, tmp_path / "stopped", backend, stop_at=2)
    resumed = [record["loss"] for record in trained(kind, tmp_path / "stopped", backend)]
    assert resumed == found


def test_steps_compile_a_block_once_and_never_again(tmp_path):
    """One code of a block for training steps, and one where gradients are off; no graph breaks (fullgraph)."""
    counters = torch._dynamo.utils.counters
    trained("dynamics", tmp_path, "eager")
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
