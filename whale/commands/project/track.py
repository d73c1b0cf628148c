"""`whale track`: bring MLflow up to date with what the stages spooled."""

from pathlib import Path

from whale.commands.output import AsJson, group, tell

app = group("MLflow: a local sqlite store, no server.")


@app.command("sync", epilog="Example: whale track sync")
def sync(as_json: AsJson = False) -> None:
    """Bring MLflow up to date. Replays new lines of work/mlflow_spool into mlflow.db; `make ui` does it first."""
    from whale.tracking.mlflow_store import replay_all

    done = replay_all(Path.cwd())
    found = {"replayed": done.runs, "unchanged": done.unchanged}
    tell(found, as_json, lambda _: print(f"{done.runs} runs replayed, {done.unchanged} already there"))
