"""How a group of worker processes ends when one of them fails."""

import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from whale.common.errors import BadDataError, WorkerLostError
from whale.common.limits import ERROR_CHARACTERS
from whale.runtime.train import worker_processes
from whale.runtime.train.training_job import TrainingJob
from whale.runtime.train.worker_processes import run_group
from whale.training.loop.communicator import Communicator
from whale.training.loop.task import Task

LONG = 2**20  # characters; a pipe holds 64 KiB


def build(communicator: Communicator, make_error: Callable[[], Exception]) -> Task:
    raise make_error()


def run(folder: Path, make_error: Callable[[], Exception], num_workers: int = 2) -> None:
    run_group(TrainingJob(partial(build, make_error=make_error), folder, folder, num_workers), "fork")


def test_an_error_longer_than_a_pipe_ends_the_group_and_arrives_shortened(tmp_path):
    with pytest.raises(RuntimeError, match="the end of it") as caught:
        run(tmp_path, lambda: ValueError("x" * LONG + " the end of it"))
    assert "ValueError: xxx" in str(caught.value) and "characters left out" in str(caught.value)
    assert len(str(caught.value)) < ERROR_CHARACTERS + 100
    assert not multiprocessing.active_children()


def test_a_named_error_longer_than_a_pipe_arrives_whole(tmp_path):
    with pytest.raises(BadDataError, match="too long") as caught:
        run(tmp_path, lambda: BadDataError("too long", found="x" * LONG))
    assert len(caught.value.found) == LONG


def test_what_cannot_travel_with_a_named_error_arrives_as_text(tmp_path):
    with pytest.raises(BadDataError, match=r"found: +<function"):
        run(tmp_path, lambda: BadDataError("cannot travel", found=lambda: None), num_workers=1)


def end_badly(*_: object) -> None:
    os._exit(70)


def test_a_worker_that_ends_badly_is_never_taken_for_one_that_is_done(tmp_path, monkeypatch):
    """Its exit code can be asked for a moment too early: without waiting for it, 1 of 60 groups passed for done."""
    monkeypatch.setattr(worker_processes, "_start", end_badly)
    for _ in range(200):
        with pytest.raises(WorkerLostError, match="exit code 70"):
            run(tmp_path, ValueError, num_workers=1)
