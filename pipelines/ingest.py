"""Ingest: one dataset's raw episodes, its spec -> shards, manifest, episode index, statistics, quarantine."""

import time
from pathlib import Path
from typing import Annotated

from whale.common.config import load_yaml
from whale.common.printable import one_line
from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.data.ingest.episode_table import episode_table
from whale.data.ingest.finish import finish, in_one_line
from whale.data.ingest.ingest import IngestConfig, IngestTask, empty_splits, plan_tasks
from whale.data.ingest.sources.location import described_files
from whale.data.ingest.tasks import left_out, source_of
from whale.data.spec.needed_splits import require_splits
from whale.data.spec.spec import DatasetSpec, load_answered_spec
from whale.runtime.beam_ingest import load_beam_config, run_tasks
from whale.runtime.workers.process.execution import load_execution


class Args(StageArgs):
    """Raw episodes as their makers published them; the spec says what they mean."""

    raw: Path
    ingest: IngestConfig
    spec: Annotated[DatasetSpec, load_answered_spec]


def run(args: Args, run: Run) -> None:
    """A task per source file, in processes; then one manifest."""
    started = time.monotonic()
    run.add_described(described_files(args.raw))
    planned = plan_tasks(args.raw, args.spec, args.ingest, run.work)
    require_splits(args.spec, load_yaml("params.yaml"), empty_splits(planned))
    tasks = run.sampled(planned, IngestTask.holds_train)  # without train there are no statistics
    with run.compute(), run.progress(sum(task.shard.records for task in tasks), "episodes") as bar:
        run_tasks(tasks, load_execution().beam_workers, load_beam_config(), bar.update)
        report = finish(tasks, run.work, run.out, len(tasks) == len(planned))
    run.add_dataset(args.spec.source.dataset, args.spec.source.version)
    unread = left_out(source_of(planned[0]), args.spec) if planned else []
    run.note(left_out=unread)
    run.keep("episodes.parquet", episode_table(run.out))
    run.log_metrics(report_metrics(report))
    for each in unread:
        print(f"{args.spec.name}: not read: {one_line(each)}", flush=True)
    print(in_one_line(report, time.monotonic() - started), flush=True)


def report_metrics(report: dict) -> dict[str, float]:
    """Counts of read, kept and dropped as flat numbers for tracking."""
    flat = {f"read/{what}": count for what, count in report["read"].items() if what != "valid_steps"}
    for group in ("kept", "dropped"):
        for name, counts in report[group].items():
            flat |= {f"{group}/{name}/{what}": count for what, count in counts.items()}
    return flat | {f"quality/{outcome}": number for outcome, number in report["quality"].items()}
