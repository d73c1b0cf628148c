"""Start a training where it is to run, follow it, and start a group again that lost a worker.

What a worker does is one function (train_worker.py); what differs is where it runs: in this process, in processes of
this machine, or on Ray. The lead worker writes the trained model into the stage's output and its curve to a file, which
the stage follows for progress and tracking. A worker that is lost costs the steps since the last saved state.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from whale.common.errors import WorkerLostError
from whale.common.json_files import parse_json, read_json
from whale.common.progress import polling
from whale.runtime.train.ray_train import run_on_ray
from whale.runtime.train.train_worker import work_alone
from whale.runtime.train.training_job import FOUND, LIVE, STOP, StopSwitch, TrainingJob, hang_files
from whale.runtime.train.worker_processes import run_group
from whale.runtime.workers.ray_session import ray_session

POLL_SECONDS = 0.5


def train(
    job: TrainingJob,
    on_record: Callable[[dict], None],
    on_step: Callable[[int], None],
    *,
    launcher: Literal["processes", "ray"] = "processes",
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
        polling(_lines(job.work / LIVE, on_record, on_step), POLL_SECONDS),
        ray_session(job.num_workers if uses_ray else 0, ray_address),
        StopSwitch(job.work / STOP) as stop,  # after Ray, which has a handler of its own
    ):
        group = partial(run_group, start_method=start_method)
        run = run_on_ray if uses_ray else group if job.num_workers else work_alone
        for attempt in range(restarts + 1):
            try:
                run(job)
                break
            except WorkerLostError as error:
                _say_lost(job, error)
                if attempt == restarts or stop.is_requested:
                    raise
    found = read_json(job.work / FOUND)
    if found["is_stopped"]:
        print(f"stopped after step {found['steps']}; its state is saved", file=sys.stderr, flush=True)
        raise SystemExit(143)
    return found


def _say_lost(job: TrainingJob, error: WorkerLostError) -> None:
    """Name the loss, where training goes on, and the stacks of a worker that hung."""
    newest = job.states().newest_name()
    print(f"lost {error}; saved: {newest.partition(':')[0] if newest else 'nothing'}", file=sys.stderr, flush=True)
    for path in hang_files(job):
        if text := path.read_text():
            print(f"no step for {job.engine.hang_seconds} s, stacks of {path}:\n{text}", file=sys.stderr, flush=True)


def _lines(path: Path, on_record: Callable[[dict], None], on_step: Callable[[int], None]) -> Callable[[], None]:
    """A look at what the lead worker has appended to a file since the last one: handed to the stage."""
    position = 0

    def look() -> None:
        nonlocal position
        with open(path, "rb") as file:
            file.seek(position)
            text = file.read()
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            position += len(line)
            message = parse_json(line, path)
            if "record" in message:
                on_record(message["record"])
            else:
                on_step(message["step"])

    return look
