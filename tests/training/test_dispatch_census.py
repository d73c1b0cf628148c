"""What a training step asks of a device, counted operator by operator on tensors that lie on `meta`.

Such tensors have shapes and no numbers, so every look at one and every copy between devices is seen, also without a
GPU. A look waits until the device has done all it was given: a step may take one. What runs for CPUs alone does not run
here. Numbers that are looked at are invented (1, true).
"""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
import tiny_training as runs
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from whale.training.loop.communicator import Communicator
from whale.training.loop.loop import _Fit
from whale.training.loop.optimizer import make_optimizer
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.resume.optimizer_state import load_optimizer_tensors, on_host, optimizer_tensors
from whale.training.loop.task import Hooks

STEPS = 8
KINDS = ["dynamics", "tokenizer", "behavior"]


class Census(TorchDispatchMode):
    """Counts operators, looks (`item`, `bool`, `tolist`) and copies between devices."""

    def __init__(self):
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.looks, self.copies = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        self.operators[name] += 1
        if name.startswith(("aten._local_scalar_dense", "aten.is_nonzero")) and args[0].device.type == "meta":
            self.looks += 1
            return True if args[0].dtype == torch.bool else 1
        goes_to = str((kwargs or {}).get("device"))
        if name == "aten._to_copy.default" and args[0].device.type == "meta" and goes_to == "cpu":
            self.looks += 1
            return torch.ones(args[0].shape, dtype=args[0].dtype)
        out = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves((args, kwargs, out)) if isinstance(each, torch.Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.copies.append((name, [tuple(tensor.shape) for tensor in tensors]))
        return out


@pytest.fixture(autouse=True)
def meta_counts_as_a_device(monkeypatch):
    """torch's fused optimizer and its autocast do not know `meta`."""
    from torch.optim import optimizer
    from torch.utils import _foreach_utils

    for module in (optimizer, _foreach_utils):
        if hasattr(module, "_get_fused_kernels_supported_devices"):
            monkeypatch.setattr(module, "_get_fused_kernels_supported_devices", lambda: ["cuda", "cpu", "meta"])
    autocast = torch.autocast
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda kind, *rest, **more: nullcontext() if kind == "meta" else autocast(kind, *rest, **more),
    )
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def steps(kind: str, folder: Path) -> list[Census]:
    """A census of each step, after the first, which makes its constants."""
    task = runs.task(kind, 1000)  # so no step of these is recorded
    task.model.to("meta")
    fit = _Fit(task, task.model, StateFolder(folder), Communicator(device="meta"), Hooks())
    taken = []
    for step, batch in task.loader:
        with Census() as census:
            items = fit._to_device(batch)
            assert len(census.copies) == len(batch)
            census.copies.clear()
            fit._step(step, items)
        taken.append(census)
        if step == STEPS:
            return taken[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_looks_once_and_copies_nothing_but_its_batch(kind, tmp_path):
    """Before: the loss flag, the norm, the rate and, for a tokenizer, the use of its codes, each for itself."""
    found = steps(kind, tmp_path)
    assert [census.looks for census in found] == [1] * STEPS
    # Idle codes are replaced every few steps only; the order in which latents are taken is drawn on the CPU.
    copies = Counter(shapes[0] for census in found for _, shapes in census.copies)
    latents, codes = (4 * 5 * 16,), (64,)
    assert copies.pop(codes, 0) <= 2  # how long each was idle, as the first codes are set
    assert set(copies) == ({latents} if kind == "tokenizer" else set())


def test_a_group_looks_at_the_stop_and_at_the_gradient_together(monkeypatch, tmp_path):
    class Done:
        def wait(self) -> None: ...

    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value, async_op=False: Done())
    task = runs.task("dynamics", 1000)
    task.model.to("meta")
    group = Communicator(0, 2, "meta")
    fit = _Fit(task, task.model, StateFolder(tmp_path), group, Hooks())
    batches = iter(task.loader)
    for _ in range(3):
        step, batch = next(batches)
        items = fit._to_device(batch)
        with Census() as census:
            fit._step(step, items)
    assert (census.looks, census.copies) == (1, [])


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_sorts_to_add_up(kind, tmp_path):
    """Under deterministic sums a GPU does `scatter_add_` of two axes, or a sum into places, by sorting all of them."""
    for census in steps(kind, tmp_path):
        assert census.operators["aten.index_put_.default"] == 0
        if kind == "dynamics":
            assert census.operators["aten.scatter_add_.default"] == 0


def test_what_a_resumed_optimizer_knows_lies_where_its_weights_do():
    """The fused kernel reads the count of steps by address: on the CPU that was an illegal access on every resume."""
    here, there = runs.task("dynamics"), runs.task("dynamics")
    optimizer = make_optimizer(here.model, here.optimization)
    for parameter in here.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    saved = on_host(optimizer_tensors(here.model, optimizer), is_lead=True)
    assert {tensor.device.type for tensor in saved.values()} == {"cpu"}
    there.model.to("meta")
    resumed = make_optimizer(there.model, there.optimization)
    load_optimizer_tensors(there.model, resumed, saved)
    assert {value.device.type for state in resumed.state.values() for value in state.values()} == {"meta"}


def test_only_the_lead_keeps_a_copy_for_the_disk():
    """All workers of one machine would hold the whole state otherwise, each on its card."""
    assert on_host({"weight": torch.ones(3)}, is_lead=False) == {}
    weight = torch.ones(3)
    kept = on_host({"weight": weight}, is_lead=True)["weight"]
    weight.zero_()
    assert kept.tolist() == [1, 1, 1]  # a copy also where it lay on the CPU: training goes on meanwhile
