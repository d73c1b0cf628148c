"""Run the training loop under Ray Train: in this process (no workers) or in a group of workers, the same loop.

What a worker does is one function; what differs is where it runs. The lead worker writes the trained model into the
stage's output and its curve to a file, which the stage follows for progress and tracking.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from whale.errors import WhaleError
from whale.lineage.statement import write_json
from whale.models.folder import save_model
from whale.runtime.ray_session import ray_session
from whale.training.checkpoint import StateFolder
from whale.training.communicator import Communicator
from whale.training.loop import Task, fit

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class TrainingJob:
    """What one training stage asks for.

    `build(communicator)` makes the task in the worker; it must be picklable. `out` gets the model folder, `work` keeps
    the resume state.
    """

    build: Callable[[Communicator], Task]
    out: Path
    work: Path
    num_workers: int
    threads: int
    ray_address: str | None = None


def train(job: TrainingJob, on_record: Callable[[dict], None], on_step: Callable[[int], None]) -> dict:
    """Run `job` to its end; returns {"steps", "best", "resumed_from", "seconds"} (the loop's own time).

    `on_record` and `on_step` are called in this process, at most twice a second.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import WorkerGroupError

    live = job.work / "live.jsonl"
    job.work.mkdir(parents=True, exist_ok=True)
    live.write_text("")
    StateFolder(job.work / "states").clean()
    with _Follower(live, on_record, on_step), ray_session(job.num_workers, job.ray_address):
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": job, "directory": os.getcwd()},
            scaling_config=ScalingConfig(num_workers=job.num_workers, use_gpu=torch.cuda.is_available()),
            run_config=RunConfig(name="run", storage_path=str((job.work / "ray").absolute())),
        )
        try:
            trainer.fit()
        except WorkerGroupError as error:
            raise _cause(error) from error
    return json.loads((job.work / "fit.json").read_text())


def _work(settings: dict) -> None:
    """What each worker runs."""
    import ray.train
    from ray.train.torch import prepare_model

    os.chdir(settings["directory"])  # a worker starts elsewhere; paths are relative to the project
    job: TrainingJob = settings["job"]
    context = ray.train.get_context()
    communicator = Communicator(context.get_world_rank(), context.get_world_size())
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # debugging aid, costs 5 %
    task = job.build(communicator)
    states = StateFolder(job.work / "states", say=print)
    with open(job.work / "live.jsonl", "a") as live:

        def write(line: dict) -> None:
            live.write(json.dumps(line) + "\n")
            live.flush()

        started = time.monotonic()
        result = fit(
            task,
            states,
            communicator,
            wrap=prepare_model,
            on_record=lambda record: write({"record": record}),
            on_step=lambda step: write({"step": step}),
        )
    if communicator.is_lead:
        save_model(job.out, task.model)
        write_json(job.out / "curves.json", result.curve)
        write_json(job.out / "receipt.json", task.loader.receipt(result.steps))
        found = {"steps": result.steps, "best": result.best}
        write_json(job.out / "training.json", found)
        took = {"resumed_from": result.resumed_from, "seconds": time.monotonic() - started}
        write_json(job.work / "fit.json", found | took)


def _cause(error: Exception) -> Exception:
    """The error of the lowest-ranked worker that names a cause a person can mend; else `error` itself."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    causes = [getattr(failures[rank], "_base_exc", failures[rank]) for rank in sorted(failures)]
    return next((cause for cause in causes if isinstance(cause, WhaleError)), error)


class _Follower:
    """Reads the lines that the lead worker appends to a file and hands them to the stage."""

    def __init__(self, path: Path, on_record: Callable[[dict], None], on_step: Callable[[int], None]):
        self.path, self.on_record, self.on_step = path, on_record, on_step
        self.position, self.done = 0, threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
        self._read()

    def _follow(self) -> None:
        while not self.done.wait(POLL_SECONDS):
            self._read()

    def _read(self) -> None:
        with open(self.path, "rb") as file:
            file.seek(self.position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.position += len(whole)
        for line in whole.splitlines():
            message = json.loads(line)
            if "record" in message:
                self.on_record(message["record"])
            else:
                self.on_step(message["step"])
