"""`whale`: commands for what DVC cannot do. Stages are started by `dvc repro`, nowhere else (`whale run` starts that).

Exit codes are those of docs/reference/cli.md: typer's own would make usage errors 2, so `main` maps them.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from whale.commands.data import mix, raw, shards, spec, stats
from whale.commands.lineage import accept, key, proofs, questions, taint
from whale.commands.project import doctor, init, plan, profile, timings, track
from whale.commands.project import run as side_by_side
from whale.commands.results import evaluate, export, metrics, model, play, policy, rollout
from whale.common.printable import escaped_output
from whale.guard import failure

PACKAGE = "whale-world-model"
MENDING = {"profile", "doctor", "init", "timings"}
HELP = {"-h", "--help"}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Commands around the pipeline; run it with `dvc repro`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
questions.app.add_typer(proofs.app)  # without a name: its commands are those of `whale lineage`
questions.app.add_typer(taint.app, name="taint")
questions.app.add_typer(key.app, name="key")
app.add_typer(profile.app, name="profile")
app.add_typer(raw.app, name="data")
app.add_typer(spec.app, name="spec")
app.add_typer(shards.app, name="shards")
app.add_typer(mix.app, name="mix")
app.add_typer(stats.app, name="stats")
app.add_typer(track.app, name="track")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(model.app, name="model")
app.add_typer(policy.app, name="policy")
app.add_typer(questions.app, name="lineage")
app.command("accept", epilog=accept.EXAMPLE)(accept.accept)
app.command("audit", epilog="Example: whale audit artifacts/demo/models/dynamics/full")(proofs.audit_checkpoint)
app.command("play", epilog=play.EXAMPLE)(play.play)
app.command("rollout", epilog=rollout.EXAMPLE)(rollout.rollout)
app.command("export", epilog=export.EXAMPLE)(export.export)
app.command("fsck", epilog="Example: whale fsck")(proofs.fsck)
app.command("init", epilog=init.EXAMPLE)(init.init)
app.command("plan", epilog=plan.EXAMPLE)(plan.plan)
app.command("run", epilog=side_by_side.EXAMPLE)(side_by_side.run)
app.command("timings", epilog=timings.EXAMPLE)(timings.timings)
app.command("metrics", epilog=metrics.EXAMPLE)(metrics.metrics)
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"whale {version(PACKAGE)}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    """What stands before a command. What is no name in params.yaml ends here, but for those that mend or show it."""
    if context.invoked_subcommand not in MENDING and not HELP & {*sys.argv[1:]}:
        from whale.pipeline_file import nodes_of

        nodes_of(Path())


def main() -> None:
    """Entry point of `whale` and of `python -m whale.cli`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    with escaped_output():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        returned = app(args=arguments, prog_name="whale", standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.Abort:
        return 130
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 70
    except KeyboardInterrupt as error:
        return failure.report(error)
    except Exception as error:
        if hasattr(error, "format_message"):  # usage: typer's own click, whose classes typer does not export
            print(f"error: {error.format_message()}", file=sys.stderr)
            if (context := getattr(error, "ctx", None)) is not None:
                print("\n".join(filter(None, (context.get_usage(), context.command.epilog))), file=sys.stderr)
            return 64
        return failure.report(error)
    return returned if isinstance(returned, int) else 0


if __name__ == "__main__":
    main()
