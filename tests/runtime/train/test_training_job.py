"""What `train` does around the loop: settings it must refuse, errors of the stage, old stacks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_training as runs

from whale.common.errors import BadDataError, ConfigError
from whale.runtime.train.supervise import train
from whale.runtime.train.training_job import Engine, TrainingJob
from whale.training.loop.communicator import Communicator
from whale.training.loop.task import Task

STEPS = 3


def build(communicator: Communicator) -> Task:
    return runs.task("dynamics", STEPS, communicator)


def run(
    folder: Path,
    engine: Engine | None = None,
    on_record: Callable[[dict], None] = lambda record: None,
    build: Callable[[Communicator], Task] = build,
) -> dict:
    (folder / "out").mkdir(parents=True, exist_ok=True)
    job = TrainingJob(build, folder / "out", folder / "work", 0, engine or Engine(), "tiny")
    return train(job, on_record, lambda step: None)


def test_sharding_without_a_group_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"execution\.sharding"):
        run(tmp_path, Engine(sharding="fsdp"))


def test_compiling_sharded_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"execution\.compile"):
        run(tmp_path, Engine(sharding="fsdp", compile=True))


def test_an_error_of_the_stage_while_it_follows_is_raised_at_the_end(tmp_path):
    records = []

    def full(record: dict) -> None:
        records.append(record["step"])
        if record["step"] == 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, on_record=full)
    assert records == [1, 2]


def test_an_error_of_training_comes_before_one_of_the_stage(tmp_path):
    def full(record: dict) -> None:
        raise OSError(28, "No space left on device")

    def broken(communicator: Communicator) -> Task:
        task = build(communicator)
        forward = task.model.forward

        def forward_to_the_last(batch):
            if task.loader.step == STEPS - 1:
                raise BadDataError("bad sample")
            return forward(batch)

        task.model.forward = forward_to_the_last
        return task

    with pytest.raises(BadDataError, match="bad sample"):
        run(tmp_path, on_record=full, build=broken)


def test_stacks_of_an_earlier_run_are_removed(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/hang-7.txt").write_text("old")
    assert run(tmp_path)["steps"] == STEPS
    assert not list((tmp_path / "work").glob("hang-*.txt"))
