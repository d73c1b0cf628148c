"""`whale track`: bring MLflow up to date with what the stages spooled."""

from pathlib import Path
from typing import Any

import typer

from whale.commands.lineage.artefact import ExpectRoot
from whale.commands.output import AsJson, group, print_json, tell
from whale.commands.project.timings import active_profile

ADDRESS = "http://127.0.0.1:5000"  # as `make ui` has it

app = group("MLflow: a local sqlite store, no server.")


@app.command("sync", epilog="Example: whale track sync")
def sync(as_json: AsJson = False) -> None:
    """Bring MLflow up to date. Replays new lines of work/mlflow_spool into mlflow.db; `make ui` does it first."""
    from whale.tracking.mlflow_store import page_of, replay_all

    done = replay_all(Path.cwd())
    page = page_of(Path.cwd(), active_profile() or "demo")
    found = {"replayed": done.runs, "unchanged": done.unchanged, "torn": done.torn, "page": page}
    tell(found, as_json, _print)


@app.command("verify", epilog="Example: whale track verify")
def verify(expect_root: ExpectRoot = None, as_json: AsJson = False) -> None:
    """Compare everything that MLflow's page shows with the signed record. Brings it up to date first.

    Metrics, params, tags, status, names, data sets, models: made anew from what was signed, and compared row by row.
    """
    from whale.audit.checks.tracking_page import verify_page
    from whale.commands.lineage import text as say
    from whale.tracking.mlflow_store import STORE, point_at_current, replay_all

    replay_all(Path.cwd())
    if Path(STORE).is_file():
        point_at_current(Path.cwd())
    report = verify_page(expect_root)
    if as_json:
        print_json(report.as_dict())
    else:
        say.verify("MLflow", report)
    raise typer.Exit(report.code)


def _print(found: dict[str, Any]) -> None:
    print(f"{found['replayed']} runs replayed, {found['unchanged']} already there")
    for name, lines in sorted(found["torn"].items()):
        print(f"{name}: {lines} torn lines are left out (a full disk, or a killed process, left them)")
    if found["page"]:
        print(f"`make ui`, then: {ADDRESS}/{found['page']}")
