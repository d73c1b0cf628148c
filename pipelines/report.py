"""Report: all results -> one self-contained page, and one moving picture."""

from pathlib import Path
from typing import ClassVar

from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.reporting.report import ReportInputs, build_report


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
    run.log_artifact(run.out / "index.html")
