"""How a worker sets its process up, and how it looks at steps again: where and as the run computed."""

from pathlib import Path

import pytest
import tiny_training as runs
import torch
from torch.nn import functional as F

from whale.runtime.train import train_worker
from whale.runtime.train.train_worker import _device, _same_sums, recompute_steps, replay_step, work_alone
from whale.runtime.train.training_job import Engine, TrainingJob
from whale.training.loop.communicator import Communicator
from whale.training.loop.task import Task

STEPS = 6


@pytest.fixture(autouse=True)
def restored():
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.enable_math_sdp(True)


def test_on_a_gpu_attention_that_no_fused_kernel_takes_is_an_error():
    """The switch is one for all devices, so what it does shows on a CPU, too."""
    query = torch.randn(1, 2, 4, 8, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)  # a mask that learns: no fused kernel takes it
    assert F.scaled_dot_product_attention(query, query, query, mask).shape == query.shape
    _same_sums(Engine(device="cpu"))
    assert torch.backends.cuda.math_sdp_enabled()
    _same_sums(Engine(device="cuda"))
    with pytest.raises(RuntimeError, match=r"[Nn]o (viable|available)"):
        F.scaled_dot_product_attention(query, query, query, mask)


@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_each_worker_of_a_machine_has_a_gpu_of_its_own(monkeypatch, gpus):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    devices = [_device(Engine(device="cuda"), rank) for rank in range(gpus)]
    assert [device.index for device in devices] == list(range(gpus)) and chosen == devices
    assert _device(Engine(device="cpu"), 3).type == "cpu"


def build(communicator: Communicator, seen: list) -> Task:
    seen.append(communicator.device)
    return runs.task("dynamics", STEPS, communicator)


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_steps_are_looked_at_again_on_the_device_of_the_run(tmp_path, monkeypatch, micro_batch, capsys):
    """They were computed on the CPU, so that a sound GPU was reported as faulty."""
    asked, seen, rows = [], [], []
    gpu = torch.device("cpu", 0)  # another object than the default "cpu", and all that torch has here

    def device(engine: Engine, rank: int) -> torch.device:
        asked.append((engine.device, rank))
        return gpu

    monkeypatch.setattr(train_worker, "_device", device)
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    engine = Engine(device="cuda", micro_batch=micro_batch)

    def building(communicator: Communicator) -> Task:
        task = build(communicator, seen)
        task.model.register_forward_pre_hook(
            lambda model, inputs: rows.append(len(inputs[0]["tokens"])) if torch.is_grad_enabled() else None
        )
        return task

    job = TrainingJob(building, tmp_path / "out", tmp_path / "work", 0, engine, identity="tiny")
    work_alone(job)
    rows.clear()
    assert recompute_steps(job, 2, 4) == 0
    assert replay_step(job, 4) == 0
    assert asked == [("cuda", 0)] * 3 and seen == [gpu] * 3
    assert set(rows) == {micro_batch or runs.GLOBAL_BATCH}


def test_a_group_s_step_is_looked_at_in_pieces_of_what_a_worker_had(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    rows: list[int] = []

    def building(communicator: Communicator) -> Task:
        task = build(communicator, [])
        task.model.register_forward_pre_hook(
            lambda model, inputs: rows.append(len(inputs[0]["tokens"])) if torch.is_grad_enabled() else None
        )
        return task

    job = TrainingJob(building, tmp_path / "out", Path(tmp_path / "work"), 4, Engine(sharding="fsdp"), identity="tiny")
    assert replay_step(job, 0) == 0
    assert set(rows) == {1}
