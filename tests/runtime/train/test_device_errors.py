"""What a GPU says when it fails: a full card is a wrong setting, a lost one starts the group again."""

from functools import partial

import pytest
import torch
from torch.distributed import DistBackendError

from whale.common.errors import BadDataError, ConfigError, WhaleError, WorkerLostError
from whale.runtime.train.device_errors import device_errors_named
from whale.runtime.train.train_worker import LEAST_SILENCE, longest_silence
from whale.runtime.train.training_job import Engine, TrainingJob
from whale.runtime.train.worker_processes import run_group

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has\nmore")
LOST = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:3690, remote process exited"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
]


@pytest.mark.parametrize("num_workers", [1, 8])
def test_a_full_card_names_the_setting_that_helps(num_workers):
    with pytest.raises(ConfigError, match="micro_batch") as caught, device_errors_named(num_workers):
        raise FULL
    assert caught.value.found == "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"
    assert "checkpoint_activations" in caught.value.remedy


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_device_that_failed_is_a_lost_worker_in_a_group_and_itself_alone(error):
    with pytest.raises(WorkerLostError, match="failed"), device_errors_named(8):
        raise error
    with pytest.raises(type(error)), device_errors_named(1):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), BadDataError("bad"), ValueError("a bug")])
def test_any_other_error_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught, device_errors_named(8):
        raise error
    assert caught.value is error


def build(communicator, errors: list[Exception]):
    with device_errors_named(communicator.world_size):
        raise errors[communicator.rank]


@pytest.mark.parametrize(
    ("errors", "kind"),
    [([LOST[1], FULL], ConfigError), ([LOST[1], BadDataError("bad")], BadDataError), ([LOST[0]] * 2, WorkerLostError)],
    ids=["full", "bad data", "lost"],
)
def test_of_a_group_the_worker_that_says_why_is_heard_first(tmp_path, errors, kind):
    job = TrainingJob(partial(build, errors=errors), tmp_path, tmp_path, 2)
    with pytest.raises(WhaleError) as caught:
        run_group(job, "fork")
    assert type(caught.value) is kind


@pytest.mark.parametrize("hang_seconds", [60, 600, 1800, 7200])
def test_the_watchdog_speaks_before_a_collective_gives_up(hang_seconds):
    silence = longest_silence(Engine(hang_seconds=hang_seconds))
    assert silence >= LEAST_SILENCE and silence > hang_seconds
