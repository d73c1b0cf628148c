"""What each worker of a training does, wherever it lives: alone, one of a group of processes, or a Ray actor."""

import faulthandler
import json
import os
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from whale.common.errors import ConfigError
from whale.common.json_files import write_json
from whale.models.trunk.folder import PublishedModel, save_model
from whale.models.trunk.torch_process import set_up_torch
from whale.runtime.train.device_errors import device_errors_named
from whale.runtime.train.training_job import FOUND, LIVE, STOP, Engine, TrainingJob
from whale.training.loop.communicator import Communicator
from whale.training.loop.loop import FitResult, fit
from whale.training.loop.recomputation import recompute
from whale.training.loop.replay import replay
from whale.training.loop.resume.optimizer_state import on_host
from whale.training.loop.task import Hooks, Task

LEAST_SILENCE = 1800  # seconds; of another worker inside a collective


def work_alone(job: TrainingJob) -> None:
    """Train in this process."""
    work(job, Communicator(device=_device(job.engine, 0)))


def work_in_group(job: TrainingJob, rank: int, store: Any) -> None:
    """Train as worker `rank` of `job.num_workers`, which find one another in `store` (torch's TCPStore)."""
    device = _device(job.engine, rank)
    backend = "nccl" if device.type == "cuda" else "gloo"
    silence = timedelta(seconds=longest_silence(job.engine))
    dist.init_process_group(backend, store=store, rank=rank, world_size=job.num_workers, timeout=silence)
    work(job, Communicator(rank, job.num_workers, device))


def longest_silence(engine: Engine) -> int:
    """Seconds after which a collective gives up: later than the watchdog, whose stacks say who hung and where."""
    return max(LEAST_SILENCE, 2 * engine.hang_seconds)


def _device(engine: Engine, rank: int) -> torch.device:
    """A GPU each, by rank."""
    if engine.device != "cuda":
        return torch.device("cpu")
    device = torch.device("cuda", rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def work(job: TrainingJob, communicator: Communicator) -> None:
    """Train as the worker that `communicator` says.

    The lead publishes the model into `job.out` and what happened into `job.work`.
    """
    _same_sums(job.engine)
    task = job.build(communicator)
    started = time.monotonic()
    with open(job.work / LIVE, "a") as live, _Watchdog(job, communicator.rank) as watchdog:

        def write(line: dict) -> None:
            live.write(json.dumps(line) + "\n")
            live.flush()

        hooks = Hooks(
            wrap=partial(_wrapped, engine=job.engine, communicator=communicator),
            micro_batch=job.engine.micro_batch,
            stop_requested=(job.work / STOP).exists,
            on_record=lambda record: write({"record": record}),
            on_step=lambda step: write({"step": step}),
            on_alive=watchdog.alive,
            replay=job.replay,
        )
        with device_errors_named(communicator.world_size):
            result = fit(task, job.states(), communicator, hooks)
    _publish(job, task, result, communicator, time.monotonic() - started)


def recompute_steps(job: TrainingJob, start: int, until: int) -> int:
    """Compute the steps between two saved states of a run of one worker again, in this process: see `recompute`."""
    _same_sums(job.engine)
    alone = Communicator(device=_device(job.engine, 0))
    hooks = Hooks(wrap=partial(_wrapped, engine=job.engine, communicator=alone), micro_batch=job.engine.micro_batch)
    return recompute(job.build(alone), job.states(), start, until, hooks)


def replay_step(job: TrainingJob, step: int) -> int:
    """Look at one step again on the run's device, in this process: see `replay`.

    The whole batch of the group is here; it is cut into what a worker had at a time.
    """
    _same_sums(job.engine)
    alone = Communicator(device=_device(job.engine, 0))
    task = job.build(alone)
    own_rows = -(-task.optimization.batch_size // max(job.num_workers, 1))
    engine = replace(job.engine, sharding="ddp")  # alone, weights are whole
    wrap = partial(_wrapped, engine=engine, communicator=alone)
    return replay(task, job.states(), step, Hooks(wrap=wrap, micro_batch=job.engine.micro_batch or own_rows))


def _same_sums(engine: Engine) -> None:
    set_up_torch(engine.threads)
    if engine.device == "cuda":  # attention that no fused kernel takes is an error, not a quiet fall to the slow one
        torch.backends.cuda.enable_math_sdp(False)
    # Without this workspace torch refuses products of matrices on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # debugging aid, costs 5 %


def _wrapped(model: PublishedModel, engine: Engine, communicator: Communicator) -> nn.Module:
    """Recompute activations, compile, move to the device, put into the process group, in this order.

    Raises ConfigError for what would otherwise be left out in silence.
    """
    from whale.training.loop.wrapping import compile_blocks, recompute_activations, shard

    is_sharded = engine.sharding == "fsdp"
    if is_sharded and engine.compile:
        raise ConfigError("sharded weights are not compiled", place="execution.compile", found=True, expected=False)
    if is_sharded and not torch.distributed.is_initialized():
        raise ConfigError(
            "weights can only be sharded over a group of workers",
            place="execution.sharding",
            found="fsdp, and this process works alone",
            expected="ddp, or train_workers of this stage > 0",
        )
    if engine.checkpoint_activations:
        recompute_activations(model)
    if is_sharded:
        return shard(model)
    if engine.compile:
        compile_blocks(model)
    model = model.to(communicator.device)
    if communicator.world_size == 1:
        return model
    # Buffers are constants that every worker computes alike: broadcasting them would be one more wait in each step.
    devices = [communicator.device] if torch.device(communicator.device).type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, forward_sync_buffers=False, gradient_as_bucket_view=True)


def _publish(job: TrainingJob, task: Task, result: FitResult, communicator: Communicator, seconds: float) -> None:
    """Sharded weights are put together by all, written by the lead."""
    weights = on_host(task.model.state_dict(), communicator.is_lead)
    if not communicator.is_lead:
        return
    if not result.is_stopped:
        save_model(job.out, _plain(task.model, weights))
        write_json(job.out / "curves.json", result.curve)
        write_json(job.out / "receipt.json", task.loader.receipt(result.steps))
        write_json(job.out / "training.json", {"steps": result.steps, "best": result.best})
    took = {"resumed_from": result.resumed_from, "is_stopped": result.is_stopped, "seconds": seconds}
    write_json(job.work / FOUND, {"steps": result.steps, "best": result.best} | took)


def _plain(model: PublishedModel, weights: dict[str, torch.Tensor]) -> PublishedModel:
    if not any(hasattr(value, "full_tensor") for value in model.state_dict().values()):
        return model
    plain = type(model)(model.config)
    plain.load_state_dict(weights)
    return plain


class _Watchdog:
    """Ends a worker that finishes no step for `hang_seconds`, with the stack of every thread in `hang-<rank>.txt`.

    faulthandler's own C thread does it, so a call that never gives the interpreter back is caught as well. Without
    workers nobody is left to read a file: the stacks go to stderr and the stage ends with 1.
    """

    def __init__(self, job: TrainingJob, rank: int):
        self.seconds = job.engine.hang_seconds
        self.path = job.work / f"hang-{rank}.txt" if job.num_workers else None

    def __enter__(self) -> "_Watchdog":
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) if self.path else 2
        self.alive()
        return self

    def alive(self) -> None:
        """A step was finished: start waiting anew."""
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=self.descriptor)

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self.path:
            os.close(self.descriptor)
            self.path.unlink(missing_ok=True)
