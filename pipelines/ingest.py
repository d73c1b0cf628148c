"""Ingest: one dataset's raw episodes, its spec -> shards, manifest, episode index, statistics, quarantine."""

from whale.config import load_yaml, stage_args
from whale.data.episode_table import episode_table
from whale.data.ingest import IngestConfig, empty_splits, plan_tasks
from whale.data.ingest_report import finish, one_line
from whale.data.needed_splits import require_splits
from whale.data.sources.location import described_files
from whale.data.spec import load_spec
from whale.lineage.summary import summarize_dataset
from whale.runtime.beam_ingest import load_beam_config, run_tasks
from whale.runtime.execution import load_execution
from whale.runtime.guard.stage import stage


def main() -> None:
    args = stage_args("raw", "out", doc=__doc__)
    config, spec = IngestConfig.load("ingest"), load_spec(args.item)
    with stage("ingest", args, {"ingest": config, "spec": spec.ingest_values()}) as run:
        run.add_described(described_files(args.raw))
        tasks = plan_tasks(args.raw, spec, config, run.work)
        require_splits(spec, load_yaml("params.yaml"), empty_splits(tasks))
        with run.compute(), run.progress(len(tasks), "source files") as bar:
            run_tasks(tasks, load_execution().beam_workers, load_beam_config(), bar.update)
            report = finish(tasks, run.work, run.out)
        run.add_dataset(summarize_dataset(run.out, spec.source.dataset, spec.source.version))
        run.keep("episodes.parquet", episode_table(run.out))
        run.log_metrics(report_metrics(report))
    print(one_line(report, run.clock.report()["wall_s"]), flush=True)


def report_metrics(report: dict) -> dict[str, float]:
    """Counts of read, kept and dropped as flat numbers for tracking."""
    flat = {f"read/{what}": count for what, count in report["read"].items() if what != "valid_steps"}
    for group in ("kept", "dropped"):
        for name, counts in report[group].items():
            flat |= {f"{group}/{name}/{what}": count for what, count in counts.items()}
    return flat | {f"quality/{outcome}": number for outcome, number in report["quality"].items()}


if __name__ == "__main__":
    main()
