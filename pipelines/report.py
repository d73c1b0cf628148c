"""Report: all results -> one self-contained page, and one moving picture."""

from whale.config import stage_args
from whale.reporting.report import ReportInputs, build_report
from whale.runtime.guard.stage import stage
from whale.runtime.mlflow_tracking import replay_all


def main() -> None:
    args = stage_args(
        "models", "pretrain", "finetune", "mix", "evaluation", "metrics_dir", "dag", "params", "out", doc=__doc__
    )
    inputs = ReportInputs(
        models=args.models,
        pretrain=args.pretrain,
        finetune=args.finetune,
        mix=args.mix,
        evaluation=args.evaluation,
        metrics=args.metrics_dir,
        pipeline=args.dag,
        params=args.params,
    )
    with stage("report", args, {}) as run:
        with run.compute():
            report = build_report(inputs)
            (run.out / "index.html").write_text(report.html, encoding="utf-8")
            if report.gif:
                (run.out / "rollout.gif").write_bytes(report.gif)
                run.log_artifact(run.out / "rollout.gif")
        run.log_artifact(run.out / "index.html")
    print(f"report: {args.out / 'index.html'}", flush=True)
    replay_all()


if __name__ == "__main__":
    main()
