"""Where workers run decides no byte: processes of this machine and Ray actors publish the same model."""

import os
import sys
import warnings
from pathlib import Path
from typing import Literal

import pytest
import tiny_training as runs
from ray.train import WorkerGroupError

from whale.common.errors import BadDataError, WorkerLostError
from whale.common.files import sha256_of_file
from whale.runtime.train.ray_train import _cause
from whale.runtime.train.supervise import train
from whale.runtime.train.training_job import TrainingJob
from whale.training.loop.communicator import Communicator
from whale.training.loop.task import Task

ROOT = Path(__file__).resolve().parents[3]
STEPS = 4


def build(communicator: Communicator) -> Task:
    if "ray" in sys.modules:  # in an actor, or in the process that leads them: a call that Ray gives up fails
        from ray.util.annotations import RayDeprecationWarning

        warnings.simplefilter("error", RayDeprecationWarning)
    return runs.task("dynamics", STEPS, communicator)


def train_with(launcher: Literal["processes", "ray"], folder: Path) -> tuple[str, list[int]]:
    """Train on two workers; the digest of the model, and the steps of the records that arrived here."""
    (folder / "out").mkdir(parents=True)
    steps: list[int] = []
    job = TrainingJob(build, folder / "out", folder / "work", 2, identity="tiny")
    found = train(job, lambda record: steps.append(record["step"]), lambda step: None, launcher=launcher)
    assert found["steps"] == STEPS
    return sha256_of_file(folder / "out/model.safetensors"), steps


@pytest.mark.slow
@pytest.mark.filterwarnings("error::ray.util.annotations.RayDeprecationWarning")
def test_ray_actors_and_processes_give_the_same_bytes_and_the_same_records(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")  # an actor unpickles `build` by its name
    expected = list(range(1, STEPS + 1))
    of_processes = train_with("processes", tmp_path / "processes")
    assert train_with("ray", tmp_path / "ray") == of_processes == (of_processes[0], expected)


@pytest.mark.parametrize(
    ("failures", "kind"),
    [
        ({0: RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")}, WorkerLostError),
        ({0: RuntimeError("[gloo/transport/tcp/pair.cc:553] closed"), 1: ValueError("a bug")}, WorkerGroupError),
        ({0: RuntimeError("[gloo/transport/tcp/pair.cc:553] closed"), 1: BadDataError("bad")}, BadDataError),
        ({0: ValueError("a bug")}, WorkerGroupError),
        ({}, WorkerGroupError),
    ],
)
def test_a_connection_that_broke_is_a_lost_worker_unless_a_worker_says_more(failures, kind):
    """On a cluster Ray may learn of a killed node after its peers have seen their connection close."""
    assert type(_cause(WorkerGroupError("failed", failures))) is kind
