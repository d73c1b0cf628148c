"""Eight ranks of one training, each by itself before torch's fake process group, ask for the same collectives in order.

A group in which one rank asks for another sum than the rest waits for ever. The fake group answers at once and wrongly,
so no rank needs another one. What is compared is every call that reaches the backend, FSDP2's
and those of saves included: its name, and kinds and shapes of its tensors. What the lead says is what others hear.
"""

import multiprocessing
import traceback
from pathlib import Path
from typing import Any

import pytest
import tiny_training as runs
import torch
import torch._dynamo  # here and not in each fork, which would take seconds
import torch.distributed.fsdp
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from whale.runtime.train.train_worker import _wrapped
from whale.runtime.train.training_job import Engine
from whale.training.loop import state as state_module
from whale.training.loop.communicator import Communicator
from whale.training.loop.loop import fit
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.resume.optimizer_state import on_host
from whale.training.loop.task import Hooks

RANKS, STEPS = 8, 5
CASES = [("dynamics", "ddp"), ("tokenizer", "ddp"), ("behavior", "ddp"), ("dynamics", "fsdp"), ("behavior", "fsdp")]


class Asked(TorchDispatchMode):
    """Every collective, in order."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[str, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace in ("c10d", "_c10d_functional") and "wait" not in str(func):
            tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
            tensors = tensors[:1] if str(func) == "c10d.scatter_.default" else tensors  # its source has the parts, too
            self.calls.append((str(func), *(f"{each.dtype} {tuple(each.shape)}" for each in tensors)))
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def eight_rows(monkeypatch):
    monkeypatch.setattr(runs, "GLOBAL_BATCH", RANKS)


def asked(kind: str, sharding: str, rank: int, said: list, states: Path) -> list[tuple[str, ...]]:
    """What a rank asks for in a whole training: saves every two steps, its curve, validation, the weights at the end.

    `said` is what the lead told the others: written by rank 0, read by them. Each rank is a process of its own, for
    torch remembers of sharded tensors what held for the rank before.
    """
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=_train, args=(answer, kind, sharding, rank, said, states))
    process.start()
    found = answer.get()
    process.join()
    assert not isinstance(found, str), found
    calls, told = found
    if rank == 0:
        said += told
    return calls


def _train(answer: Any, kind: str, sharding: str, rank: int, said: list, states: Path) -> None:
    torch.set_num_threads(1)
    told, census = list(said), Asked()

    def broadcast_object_list(carried: list, src: int, device: torch.device) -> None:
        census.calls.append(("broadcast_object_list", str(len(carried)), str(src)))
        if rank == 0:
            told.append(carried[0])
        else:
            carried[0] = told.pop(0)

    try:
        dist.broadcast_object_list = broadcast_object_list
        communicator = Communicator(rank, RANKS)
        dist.init_process_group("fake", rank=rank, world_size=RANKS, store=FakeStore())
        with census:
            task = runs.task(kind, STEPS, communicator)
            hooks = Hooks(wrap=lambda model: _told(_wrapped(model, Engine(sharding=sharding), communicator)))
            result = fit(task, StateFolder(states), communicator, hooks)
            on_host(task.model.state_dict(), communicator.is_lead)  # as it is published
        assert result.steps == STEPS and (rank == 0 or not told)
        answer.put((census.calls, told))
    except BaseException:
        answer.put(traceback.format_exc())


def _told(model: torch.nn.Module) -> torch.nn.Module:
    """DDP's C++ wants sums from its group's future, which the fake one leaves empty: each bucket by a call of ours."""

    def hook(_: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        dist.all_reduce(bucket.buffer())
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    if isinstance(model, DistributedDataParallel):
        model.register_comm_hook(None, hook)
    return model


@pytest.mark.parametrize(("kind", "sharding"), CASES, ids=str)
def test_eight_ranks_ask_for_the_same_collectives_from_start_to_end(kind, sharding, tmp_path):
    said: list = []
    lead = asked(kind, sharding, 0, said, tmp_path / "0")
    for rank in range(1, RANKS):
        assert asked(kind, sharding, rank, said, tmp_path / str(rank)) == lead, rank
    names = [call[0] for call in lead]
    assert names.count("broadcast_object_list") == len(said) >= 1
    sums = sum("allreduce" in name or "reduce_scatter" in name for name in names)
    assert sums >= 2 * STEPS  # the stop's and at least one of gradients in each step
    if sharding == "fsdp":  # weights are put together in each step, and with the moments in each save
        assert sum("all_gather" in name or "allgather" in name for name in names) > 3 * STEPS


def test_what_the_lead_alone_would_put_together_is_seen(monkeypatch, tmp_path):
    """The defect that this file is there for: a save in which only the lead gathers."""
    monkeypatch.setattr(state_module, "on_host", lambda tensors, is_lead: on_host(tensors, True) if is_lead else {})
    said: list = []
    calls = [asked("dynamics", "fsdp", rank, said, tmp_path / str(rank)) for rank in (0, 1)]
    assert len(calls[0]) > len(calls[1])
