"""Whose saved states a training may go on from: its own, or on an explicit word those that other code wrote.

The work folder is keyed by what decides the result: config, inputs, and the code as a syntax tree, so that a comment
mended during ten days of training changes nothing. Another key starts afresh and says what differs and where the old
state lies. WHALE_RESUME_FROM=<that folder> goes on from it where only the code differs, and is refused, with the
differences, where config or inputs differ. A run's own states win, and the folder of another stage or item is none of
its business: one `dvc repro` runs several.
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.errors import MissingInputError, RefusedError
from whale.common.json_files import canonical_json, changed, flatten, read_json, write_json
from whale.common.run import Run
from whale.runtime.train.training_job import CONTINUED
from whale.training.loop.resume.checkpoint import StateFolder

DERIVATION = "derivation.json"


def describe_afresh(run: Run) -> None:
    """Note this run's derivation in its work folder; print how it differs from the last one when it is new."""
    path = run.work / DERIVATION
    if path.is_file():
        return
    others = [each for each in run.work.parent.glob(f"*/{DERIVATION}") if each != path]
    if others:
        newest = max(others, key=lambda each: each.stat().st_mtime)
        lines = differences(read_json(newest), run.decided_by)
        text = "".join(f"\n  {line}" for line in lines)
        print(f"{run.name}: differs from {newest.parent} in:{text}", file=sys.stderr, flush=True)
    write_json(path, run.decided_by)


def resume_from(run: Run, states: StateFolder) -> None:
    """Take over the newest state of the folder that WHALE_RESUME_FROM names, and note it in `continued.json`.

    Nothing happens when this run has a state of its own, or the folder is another stage's or item's. Raises
    RefusedError with the differences when config or inputs are not those of this run.
    """
    if (run.work / CONTINUED).exists() and states.newest_name() is None:
        (run.work / CONTINUED).unlink()  # the state that was taken over got lost
    named = os.environ.get("WHALE_RESUME_FROM")
    if not named or Path(named).absolute() == run.work.absolute():
        return
    path = Path(named) / DERIVATION
    if not path.is_file():
        raise MissingInputError("no saved training here", file=path, place="WHALE_RESUME_FROM")
    old = read_json(path)
    if (old["stage"], old["item"]) != (run.stage, run.item):
        return
    if own := states.newest_name():
        own = own.partition(":")[0]
        print(f"{run.name}: WHALE_RESUME_FROM is left aside, {own} is this run's own", file=sys.stderr, flush=True)
        return
    lines = [line for line in differences(old, run.decided_by) if not line.startswith("code_")]
    if lines:
        raise RefusedError(
            "a training with other config or inputs cannot be continued",
            file=named,
            place="WHALE_RESUME_FROM",
            found="\n            ".join(lines),
            remedy="leave WHALE_RESUME_FROM out to start from the beginning, or take the old settings back",
        )
    identity = hashlib.sha256(canonical_json(old).encode()).hexdigest()  # of the run that was decided by these
    state = StateFolder(Path(named) / "states", identity=identity).newest()
    if state is None:
        raise MissingInputError("no saved state that verifies", file=Path(named) / "states")
    note = {"from": named, "step": state.step, "code_sha256": old["code_sha256"]}
    write_json(run.work / CONTINUED, note)  # before the state: no state of others without its note
    states.save(state)
    print(f"{run.name}: continues step {state.step} of {named}, made by other code", file=sys.stderr, flush=True)


def note_continued(run: Run) -> None:
    """Into the statement: whose state this training went on from, if it was not its own."""
    path = run.work / CONTINUED
    if path.is_file():
        run.note(continued=read_json(path))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`name: old -> new` for every value that differs, by dotted name."""
    return [f"{name}: {before} -> {after}" for name, (before, after) in changed(flatten(old), flatten(new)).items()]
