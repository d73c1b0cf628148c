"""What every training stage does around its model: choose where to run, follow, publish a checkpoint folder."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import ClassVar

from whale.common.errors import ConfigError
from whale.common.json_files import write_json
from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.runtime.train.card import write_card
from whale.runtime.train.resume_guard import describe_afresh, note_continued, resume_from
from whale.runtime.train.supervise import train
from whale.runtime.train.train_worker import recompute_steps, replay_step
from whale.runtime.train.training_job import Engine, TrainingJob
from whale.runtime.workers.process.execution import Execution, load_execution
from whale.training.loop.communicator import Communicator
from whale.training.loop.optimizer import OptimizationConfig
from whale.training.loop.task import Task

GRACE_SECONDS = 30.0  # for a step, a state of some GB and the end of the workers


class TrainingArgs(StageArgs):
    """Arguments of a training stage, which saves a step before it ends."""

    grace_seconds: ClassVar[float] = GRACE_SECONDS


def run_training(
    run: Run,
    build: Callable[[Communicator], Task],
    optimization: OptimizationConfig,
    *,
    statistics: Mapping[str, dict],
    contracts: Mapping[str, dict],
) -> None:
    """Train what `build` makes; `run.out` becomes a checkpoint folder.

    Raises SystemExit(143) after SIGTERM, with the state saved; the next run goes on from it.
    """
    execution = load_execution()
    step, until = replayed_step(os.environ), replayed_step(os.environ, "WHALE_REPLAY_UNTIL")
    describe_afresh(run)
    training_steps = optimization.training_steps
    job = _job(run, build, optimization, execution)
    launcher = execution.launcher_for(run.stage, job.num_workers)
    resume_from(run, job.states())
    if step is not None and until is not None:
        raise SystemExit(recompute_steps(job, step, until))
    if step is not None:
        raise SystemExit(replay_step(job, step))
    print(f"{run.name}: {where(job, launcher)}", file=sys.stderr, flush=True)
    with run.progress(training_steps, "steps") as progress:

        def follow(step: int) -> None:
            if progress.done == 0:  # starting workers is not training, and the first step is slower than the others
                progress.resume_at(step)
            else:
                progress.update(step - progress.done)

        found = train(
            job,
            on_record=lambda record: _log(run, record),
            on_step=follow,
            launcher=launcher,
            ray_address=execution.ray_address,
            restarts=execution.restarts,
        )
    run.add_compute(found["seconds"])
    counts = {"steps": found["steps"], "resumed_from": found["resumed_from"]}
    run.note(workers=job.num_workers, threads=job.engine.threads, **counts)
    run.note(engine=_engine_facts(job, launcher))
    note_continued(run)
    if found["resumed_from"]:
        print(f"{run.stage}: continued from saved step {found['resumed_from']} of {training_steps}", flush=True)
    run.log_metrics(counts)
    run.keep("receipt.json", (run.out / "receipt.json").read_bytes())
    write_json(run.out / "dataset_statistics.json", statistics)
    write_json(run.out / "contract.json", contracts)
    write_card(run.out, run.stage, run.item, run.decided_by["config"])


def replayed_step(environ: Mapping[str, str], name: str = "WHALE_REPLAY_STEP") -> int | None:
    """The step that is to be looked at again, or with WHALE_REPLAY_UNTIL that of the saved state to compare with.

    Raises ConfigError when it is not a number.
    """
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal():
        expected = "the number of a step, as the error printed it"
        raise ConfigError("not a whole number", place=name, found=text, expected=expected)
    return int(text)


def where(job: TrainingJob, launcher: str) -> str:
    """In words: which device, how many workers, and who starts them."""
    device = "the CPU"
    if job.engine.device == "cuda":
        import torch

        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    if not job.num_workers:
        return f"trains in this process, on {device}"
    started = {"ray": "by Ray Train", "processes": "as processes of this machine"}[launcher]
    return f"trains on {device}, {job.num_workers} workers, started {started}"


def _engine_facts(job: TrainingJob, launcher: str) -> dict[str, object]:
    """What else may change the last digits."""
    names = ("device", "micro_batch", "compile", "checkpoint_activations", "sharding")
    facts = {name: getattr(job.engine, name) for name in names}
    return facts | {"launcher": launcher if job.num_workers else "this process"}


def _job(
    run: Run, build: Callable[[Communicator], Task], optimization: OptimizationConfig, execution: Execution
) -> TrainingJob:
    # Publishing initial weights needs no group of workers.
    trains = optimization.training_steps > 0
    num_workers = execution.workers_for(run.stage, optimization.batch_size) if trains else 0
    engine = Engine(
        # Sums depend on the number of threads: one per worker in a group, a fixed number alone.
        threads=1 if num_workers > 1 else execution.threads,
        device=execution.chosen_device(),
        micro_batch=execution.micro_batch[run.stage],
        compile=execution.compile,
        checkpoint_activations=execution.checkpoint_activations,
        sharding=execution.sharding if trains else "ddp",
        hang_seconds=execution.hang_seconds,
    )
    again = f"WHALE_REPLAY_STEP=<step> {run.command}"
    return TrainingJob(
        build, run.out, run.work, num_workers, engine, run.identity, again, state_storage=execution.state_storage
    )


def _log(run: Run, record: dict) -> None:
    run.log_metrics({name: value for name, value in record.items() if name != "step"}, step=record["step"])
