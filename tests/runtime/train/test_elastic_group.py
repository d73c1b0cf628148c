"""The launch path of eight GPUs on a CPU: eight Ray Train workers, fewer after a stop, one killed, eight again.

Only the device and the backend of the collectives (gloo) are not those of a machine with eight GPUs.
"""

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_training as runs
import torch
from safetensors.torch import load_file

from whale.runtime.train.supervise import train
from whale.runtime.train.train_worker import work_alone
from whale.runtime.train.training_job import STOP, TrainingJob
from whale.training.loop.communicator import Communicator
from whale.training.loop.task import Task

ROOT = Path(__file__).resolve().parents[3]
STEPS, BATCH = 9, 8


class Watched:
    """A loader that notes what each worker takes, stops the run at one step, and kills worker 1 at another, once."""

    def __init__(self, loader, notes: Path, communicator: Communicator, stop_at: int | None, kill_at: int | None):
        self.loader, self.notes, self.communicator = loader, notes, communicator
        self.stop_at, self.kill_at = stop_at, kill_at

    def __getattr__(self, name: str):
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator:
        for step, batch in self.loader:
            if step == self.kill_at and self.communicator.rank == 1 and not (self.notes / "killed").exists():
                (self.notes / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if step == self.stop_at:
                (self.notes / "work" / STOP).touch()
            row = {"step": step, "workers": self.communicator.world_size, "samples": batch["sample_index"].tolist()}
            with open(self.notes / "seen.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")
            yield step, batch


def build(communicator: Communicator, notes: Path, stop_at: int | None = None, kill_at: int | None = None) -> Task:
    if "ray" in sys.modules:
        from ray.util.annotations import RayDeprecationWarning

        warnings.simplefilter("error", RayDeprecationWarning)
    runs.GLOBAL_BATCH = BATCH
    task = runs.task("dynamics", STEPS, communicator)
    task.loader = Watched(task.loader, notes, communicator, stop_at, kill_at)
    return task


def run(folder: Path, num_workers: int, **what: int) -> None:
    (folder / "out").mkdir(parents=True, exist_ok=True)
    job = TrainingJob(
        partial(build, notes=folder, **what), folder / "out", folder / "work", num_workers, identity="tiny"
    )
    if num_workers == 0:
        job.work.mkdir(parents=True)
        work_alone(job)
    else:
        train(job, lambda record: None, lambda step: None, launcher="ray")


@pytest.mark.nightly
@pytest.mark.filterwarnings("error::ray.util.annotations.RayDeprecationWarning")
def test_eight_four_and_eight_workers_with_one_killed_take_the_samples_of_a_straight_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    monkeypatch.setattr(runs, "GLOBAL_BATCH", BATCH)
    run(tmp_path / "straight", 0)
    torch.use_deterministic_algorithms(False)
    elastic = tmp_path / "elastic"
    for num_workers, what in ((8, {"stop_at": 2}), (4, {"stop_at": 6, "kill_at": 5})):
        with pytest.raises(SystemExit) as ended:
            run(elastic, num_workers, **what)
        assert ended.value.code == 143
    run(elastic, 8)
    assert (elastic / "killed").exists()
    found = [json.loads(line) for line in (elastic / "seen.jsonl").read_text().splitlines()]
    for step in range(STEPS):
        own = {sample for row in found if row["step"] == step for sample in row["samples"]}
        assert own == set(range(step * BATCH, (step + 1) * BATCH)), step
    # The kill came before step 5 was done, so it and what followed the last saved state were taken again.
    assert {row["workers"] for row in found} == {4, 8}
    expected = load_file(tmp_path / "straight/out/model.safetensors")
    for name, value in load_file(elastic / "out/model.safetensors").items():
        np.testing.assert_allclose(value.numpy(), expected[name].numpy(), rtol=2e-3, atol=2e-5, err_msg=name)
