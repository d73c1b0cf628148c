"""Several ranks of one training, as forked processes with a gloo group: torch is loaded already, a group costs 1 s."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from whale.training.loop.communicator import Communicator


def in_group(world_size: int, function: Callable[[Communicator], object]) -> None:
    """Run `function(communicator)` on every rank; an error of any rank fails the test."""
    if world_size == 1:
        function(Communicator())
        return
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        ranks = [context.Process(target=_rank, args=(function, rank, world_size, store)) for rank in range(world_size)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        assert [process.exitcode for process in ranks] == [0] * world_size


def _rank(function: Callable[[Communicator], object], rank: int, world_size: int, store: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    try:
        function(Communicator(rank, world_size))
    finally:
        dist.destroy_process_group()


def in_ddp(model: torch.nn.Module) -> torch.nn.Module:
    """As Ray Train's `prepare_model` wraps it; alone, the model itself."""
    return DistributedDataParallel(model, broadcast_buffers=False) if dist.is_initialized() else model
