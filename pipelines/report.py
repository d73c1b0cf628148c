"""Report: all results -> one self-contained page, one moving picture, and what `dvc metrics` and `dvc plots` show."""

from pathlib import Path
from typing import ClassVar

from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.reporting.policies.optimization_section import read_tasks
from whale.reporting.report import ReportInputs, build_report
from whale.reporting.shown_by_dvc import write_for_dvc
from whale.reporting.video_section import load_arrays


class Args(StageArgs):
    """Everything that was made before it."""

    is_last: ClassVar[bool] = True

    models: Path
    data: Path
    mix: Path
    evaluation: Path
    metrics_dir: Path
    dag: Path
    params: Path


def run(args: Args, run: Run) -> None:
    """A page that needs no server and no network."""
    with run.compute():
        report = build_report(
            ReportInputs(
                models=args.models,
                data=args.data,
                mix=args.mix,
                evaluation=args.evaluation,
                metrics=args.metrics_dir,
                pipeline=args.dag,
                params=args.params,
            )
        )
        (run.out / "index.html").write_text(report.html, encoding="utf-8")
        if report.gif:
            (run.out / "rollout.gif").write_bytes(report.gif)
            run.log_artifact(run.out / "rollout.gif")
        optimized = {task: curves for task, (_, curves) in read_tasks(args.evaluation, args.metrics_dir).items()}
        uncertainty = load_arrays(args.evaluation / "uncertainty")
        shown = write_for_dvc(run.out, args.metrics_dir, args.models, uncertainty, optimized)
    run.log_metrics(shown)
    run.log_artifact(run.out / "index.html")
