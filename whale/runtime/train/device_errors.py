"""What a GPU or its links say when they fail, as errors that the supervisor knows.

torch raises them as RuntimeErrors with text. A device or a peer that is gone is a lost worker, whose group starts again
in fresh processes; a card that is full stays full, so that is a wrong setting.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from whale.common.errors import ConfigError, WorkerLostError

LOST = re.compile(
    r"CUDA error|CUDA driver error|NCCL error|NCCL communicator|ncclSystemError|ncclRemoteError|cudaError"
)


@contextmanager
def device_errors_named(num_workers: int) -> Iterator[None]:
    """Inside, ConfigError for a card that is full; in a group WorkerLostError for a GPU or a peer that failed.

    A process that works alone keeps the error as it is: its own CUDA is broken, nothing can start again in it.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            "a training step does not fit into the GPU",
            place="execution.micro_batch of this stage (local.yaml)",
            found=_first_line(error),
            expected="a micro_batch whose activations fit",
            remedy="halve micro_batch, or set checkpoint_activations: true; gradients are accumulated, samples stay",
        ) from error
    except (torch.AcceleratorError, torch.distributed.DistError, RuntimeError) as error:
        if num_workers > 1 and _is_lost(error):
            raise WorkerLostError(
                "a GPU or its link to the others failed",
                found=_first_line(error),
                remedy="look at nvidia-smi and the system's log for Xid; the same command resumes from the saved state",
            ) from error
        raise


def _is_lost(error: Exception) -> bool:
    if isinstance(error, torch.AcceleratorError | torch.distributed.DistBackendError):
        return True
    return bool(LOST.search(str(error)))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
