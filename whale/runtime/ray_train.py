"""Run the training loop under Ray Train: in this process, in processes of this machine, or on a Ray cluster.

What a worker does is one function; what differs is where it runs. The lead worker writes the trained model into the
stage's output and its curve to a file, which the stage follows for progress and tracking. A worker that is lost costs
the steps since the last saved state: the group starts again from there.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from whale.errors import WhaleError, WorkerLostError
from whale.runtime.guard import opened_files
from whale.runtime.ray_session import lean_trainer, ray_session
from whale.runtime.training_job import FOUND, LIVE, STOP, StopSwitch, TrainingJob, hang_files, work
from whale.runtime.worker_processes import run_group
from whale.training.communicator import Communicator

POLL_SECONDS = 0.5
Launcher = Literal["processes", "ray"]


def train(
    job: TrainingJob,
    on_record: Callable[[dict], None],
    on_step: Callable[[int], None],
    *,
    launcher: Launcher = "processes",
    ray_address: str | None = None,
    restarts: int = 2,
    start_method: Literal["spawn", "fork"] = "spawn",
) -> dict:
    """Run `job` to its end; returns {"steps", "best", "resumed_from", "is_stopped", "seconds"} (the loop's own time).

    `on_record` and `on_step` are called in this process, at most twice a second. Raises SystemExit(143) when SIGTERM
    came and the state is saved, the error of a worker, or WorkerLostError when workers are lost more than `restarts`
    times.
    """
    job.work.mkdir(parents=True, exist_ok=True)
    (job.work / LIVE).write_text("")
    for path in hang_files(job):  # of a run before this one
        path.unlink()
    job.states().clean()
    uses_ray = job.num_workers > 0 and (launcher == "ray" or ray_address is not None)
    with (
        _Follower(job.work / LIVE, on_record, on_step),
        ray_session(job.num_workers if uses_ray else 0, ray_address),
        StopSwitch(job.work / STOP) as stop,  # after Ray, which has a handler of its own
    ):
        group = partial(run_group, start_method=start_method)
        run = run_on_ray if uses_ray else group if job.num_workers else run_here
        for attempt in range(restarts + 1):
            try:
                run(job)
                break
            except WorkerLostError as error:
                _say_lost(job, error)
                if attempt == restarts or stop.is_requested:
                    raise
    found = json.loads((job.work / FOUND).read_text())
    if found["is_stopped"]:
        print(f"stopped after step {found['steps']}; its state is saved", file=sys.stderr, flush=True)
        raise SystemExit(143)
    return found


def run_here(job: TrainingJob) -> None:
    """Ray Train's local mode: the worker is this process (under torchrun's variables, one of a group)."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.WARNING)  # that it runs in this process is no news
    TorchTrainer(
        _train_worker,
        train_loop_config=_settings(job),
        scaling_config=ScalingConfig(num_workers=0, use_gpu=job.engine.device == "cuda"),
        run_config=RunConfig(name="run", storage_path=str((job.work / "ray").absolute())),
    ).fit()


def run_on_ray(job: TrainingJob) -> None:
    """A worker group of Ray actors, in the session that is open."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    trainer = lean_trainer(
        _train_worker,
        train_loop_config=_settings(job),
        scaling_config=ScalingConfig(
            num_workers=job.num_workers, use_gpu=job.engine.device == "cuda", placement_strategy=job.placement
        ),
        run_config=RunConfig(name="run", storage_path=str((job.work / "ray").absolute())),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise _cause(error) from error
    except ControllerError as error:
        raise WorkerLostError(f"Ray's controller: {error}") from error


def _settings(job: TrainingJob) -> dict:
    return {"job": job, "directory": os.getcwd(), "opened": os.environ.get(opened_files.WORKERS, "")}


def _train_worker(settings: dict) -> None:
    """What Ray Train calls in each worker."""
    import ray.train
    from ray.train.torch import get_device, prepare_model

    os.chdir(settings["directory"])  # an actor starts elsewhere; paths are relative to the project
    os.environ.setdefault(opened_files.WORKERS, settings["opened"])  # an actor of a Ray that was there before
    opened_files.listen_in_worker()
    context = ray.train.get_context()
    # Ray Train's local mode takes a GPU that torch finds, whatever `use_gpu` says.
    device = get_device() if settings["job"].engine.device == "cuda" else torch.device("cpu")
    communicator = Communicator(context.get_world_rank(), context.get_world_size(), device)
    # Buffers are constants that every worker computes alike: broadcasting them would be one more wait in each step.
    options = {"forward_sync_buffers": False} if communicator.world_size > 1 else {}
    prepare = partial(prepare_model, move_to_device=device, parallel_strategy_kwargs=options)
    work(settings["job"], communicator, prepare)


def _cause(error: Exception) -> Exception:
    """As for a group of processes: a named error, then a lost worker, then any error.

    Where a node goes, its peers may see their connection close before Ray misses it: that is a lost worker, too.
    """
    import ray.exceptions

    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    causes = [getattr(failures[rank], "_base_exc", failures[rank]) for rank in sorted(failures)]
    lost = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)
    if named := [cause for cause in causes if isinstance(cause, WhaleError)]:
        return named[0]
    if any(isinstance(cause, lost) or "Health" in type(cause).__name__ for cause in causes) or (
        causes and all(_is_broken_connection(cause) for cause in causes)
    ):
        return WorkerLostError("; ".join(str(cause).splitlines()[0] for cause in causes))
    return error


def _is_broken_connection(cause: Exception) -> bool:
    """gloo raises a plain RuntimeError that names its source file; NCCL and the store have a class."""
    return isinstance(cause, torch.distributed.DistError) or "gloo/transport" in str(cause)


def _say_lost(job: TrainingJob, error: WorkerLostError) -> None:
    """Name the loss, where training goes on, and the stacks of a worker that hung."""
    newest = job.states().newest_name()
    print(f"lost {error}; saved: {newest.partition(':')[0] if newest else 'nothing'}", file=sys.stderr, flush=True)
    for path in hang_files(job):
        if text := path.read_text():
            print(f"no step for {job.engine.hang_seconds} s, stacks of {path}:\n{text}", file=sys.stderr, flush=True)


class _Follower:
    """Reads the lines that the lead worker appends to a file and hands them to the stage."""

    def __init__(self, path: Path, on_record: Callable[[dict], None], on_step: Callable[[int], None]):
        self.path, self.on_record, self.on_step = path, on_record, on_step
        self.position, self.done = 0, threading.Event()
        self.error: Exception | None = None  # of what the stage does with a line, e.g. its disk is full
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, kind: object, *_: object) -> None:
        """Raises the error of the stage's functions, unless training ended with one of its own."""
        self.done.set()
        self.thread.join()
        self._read()
        if self.error is not None and kind is None:
            raise self.error

    def _follow(self) -> None:
        while self.error is None and not self.done.wait(POLL_SECONDS):
            self._read()

    def _read(self) -> None:
        """Hand on what is new, to the first error."""
        if self.error is None:
            try:
                self._hand_on()
            except Exception as error:
                self.error = error

    def _hand_on(self) -> None:
        with open(self.path, "rb") as file:
            file.seek(self.position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines(keepends=True):
            self.position += len(line)
            message = json.loads(line)
            if "record" in message:
                self.on_record(message["record"])
            else:
                self.on_step(message["step"])
