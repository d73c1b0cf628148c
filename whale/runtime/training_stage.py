"""What every training stage does around its model: choose where to run, follow, publish a checkpoint folder."""

from collections.abc import Callable, Mapping

from whale.lineage.statement import write_json
from whale.runtime.execution import load_execution
from whale.runtime.guard.stage import Run
from whale.runtime.ray_train import TrainingJob, train
from whale.training.card import write_card
from whale.training.communicator import Communicator
from whale.training.loop import Task


def run_training(
    run: Run,
    stage_name: str,
    build: Callable[[Communicator], Task],
    training_steps: int,
    *,
    statistics: Mapping[str, dict],
    contracts: Mapping[str, dict],
) -> None:
    """Train what `build` makes; `run.out` becomes a checkpoint folder."""
    execution = load_execution()
    # Publishing initial weights needs no group of workers.
    num_workers = execution.train_workers.get(stage_name, 0) if training_steps else 0
    # Sums depend on the number of threads: one per worker in a group, a fixed number alone.
    threads = 1 if num_workers > 1 else execution.threads
    job = TrainingJob(build, run.out, run.work, num_workers, threads, execution.ray_address)
    with run.progress(training_steps, "steps") as progress:

        def follow(step: int) -> None:
            if progress.done == 0:  # starting Ray is not training
                progress.resume_at(step - 1)
            progress.update(step - progress.done)

        found = train(job, on_record=lambda record: _log(run, record), on_step=follow)
    run.add_compute(found["seconds"])
    run.note(workers=num_workers, threads=threads, steps=found["steps"], resumed_from=found["resumed_from"])
    if found["resumed_from"]:
        print(f"{stage_name}: continued from saved step {found['resumed_from']} of {training_steps}", flush=True)
    run.log_metrics({"steps": found["steps"], "resumed_from": found["resumed_from"]})
    run.keep("receipt.json", (run.out / "receipt.json").read_bytes())
    write_json(run.out / "dataset_statistics.json", statistics)
    write_json(run.out / "contract.json", contracts)
    write_card(run.out, stage_name, run.item, run.derivation.config)


def _log(run: Run, record: dict) -> None:
    run.log_metrics({name: value for name, value in record.items() if name != "step"}, step=record["step"])
