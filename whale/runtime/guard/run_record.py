"""`lineage/runs/<id>/`: the statement of a stage run, its environment and its timings; the only place with a clock.

The id is 16 hex digits of sha256(derivation, digests of the outputs): running the same thing again with the same result
writes the same record anew.
"""

import argparse
import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from whale.config import canonical_json
from whale.lineage.seal import MANIFEST_NAME, read_manifest
from whale.lineage.statement import Run as RunFacts
from whale.lineage.statement import build_statement, git_state, write_json
from whale.runtime.guard import environment

if TYPE_CHECKING:
    from whale.runtime.guard.stage import Run

RUNS_DIR = Path("lineage/runs")
MAX_SUBJECTS = 64  # more files than that are named by the folder's manifest alone


def write_run_record(run: "Run", args: argparse.Namespace, subjects: dict[str, str]) -> Path:
    """Write the three files; `subjects`: path -> sha256 of the outputs. Returns the folder."""
    run_id = hashlib.sha256(canonical_json([run.digest, subjects]).encode()).hexdigest()[:16]
    directory = RUNS_DIR / run_id
    environment_sha256 = write_json(directory / "environment.json", environment.describe())
    commit, is_dirty = git_state(Path.cwd())
    facts = RunFacts(
        run_id=run_id,
        command=["python", *_command()],
        started=run.started.isoformat(timespec="milliseconds"),
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        input_paths={name: str(getattr(args, name)) for name in run.inputs},
        environment_sha256=environment_sha256,
        commit=commit,
        is_dirty=is_dirty,
    )
    write_json(directory / "statement.json", build_statement(run.derivation, facts, _all_subjects(subjects)))
    timings = {"stage": run.name, "profile": run.profile, "finished": facts.finished, **run.clock.report()}
    write_json(directory / "timings.json", timings)
    return directory


def _all_subjects(subjects: dict[str, str]) -> dict[str, str]:
    found = dict(subjects)
    for path in (Path(name) for name in subjects if Path(name).name == MANIFEST_NAME):
        rows = read_manifest(path.parent)
        if len(rows) <= MAX_SUBJECTS:
            found.update({str(path.parent / name): row["sha256"] for name, row in rows.items()})
    return found


def _command() -> list[str]:
    """As dvc.yaml says it, without this machine's path of the interpreter."""
    module = getattr(sys.modules["__main__"].__spec__, "name", None)
    return ["-m", module, *sys.argv[1:]] if module else list(sys.argv)
