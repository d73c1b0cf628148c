"""An edit of code that changes no byte need not run anything again: prove it, or say so by name, and sign that.

The proof is of syntax: every changed file is the same tree without comments, docstrings and layout. DVC then notes the
code that stands there now (`dvc commit`), and the ledger says why that is right.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whale.audit.checks.dvc_lock import code_row
from whale.audit.checks.lock_text import LOCK, parse
from whale.audit.code_change import CodeChange, code_change
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.errors import MismatchError, MissingInputError, RefusedError, WhaleError
from whale.common.files import MANIFEST_NAME, write_atomically
from whale.lineage.acceptance import Acceptance, acceptance_statement
from whale.lineage.closure import closure_digest
from whale.lineage.code_state import code_state
from whale.lineage.trust import sign_into_ledger
from whale.pipeline_file import is_code
from whale.seal import Hasher, verify_sealed

Changes = Mapping[str, Sequence[Any]]  # `dvc status --json`


@dataclass(frozen=True)
class Candidate:
    """A stage that DVC would run again: its change of code, or why it cannot be accepted."""

    stage: str
    change: CodeChange | None
    refusal: str | None

    @property
    def is_acceptable(self) -> bool:
        """Without anybody's word."""
        return self.change is not None and self.change.is_same_syntax


def candidates(status: Changes, graph: RunGraph, root: Path, sha256: Hasher) -> list[Candidate]:
    """One for each stage of `status`, in its order."""
    return [_candidate(name, changes, graph, root, sha256) for name, changes in status.items()]


def accept(
    candidate: Candidate, graph: RunGraph, because: str | None, checked: Mapping[str, Any] | None
) -> Acceptance | None:
    """Sign that the candidate's edit changes nothing; None if the ledger says so already. Then `tell_dvc`.

    Raises RefusedError with the definitions that differ, unless `because` says why they do not matter.
    """
    change = candidate.change
    if change is None:
        raise RefusedError("cannot be accepted", place=candidate.stage, found=candidate.refusal)
    if not change.is_same_syntax and not (because or "").strip():
        raise RefusedError(
            "the code is not the same",
            place=candidate.stage,
            found="\n            ".join(change.describe()),
            expected="comments, docstrings and layout alone",
            remedy=f"`dvc repro {candidate.stage}`; or --because TEXT, if you know that no byte changes",
        )
    _require_unedited(change, graph)
    if not change.files:
        return None
    code = code_state(Path.cwd(), [Path(name) for name in change.files])
    acceptance = Acceptance(
        stage=change.run.name,
        statement=change.run.id,
        accepted=datetime.now(UTC).isoformat(timespec="seconds"),
        basis="syntax" if change.is_same_syntax else "claim",
        because=because,
        files=change.files,
        before=change.before,
        commit=code.commit,
        tree=code.tree,
        closure_sha256=closure_digest(_after(change, graph)),
        outputs={name: change.run.subjects[name] for name in change.run.outputs},
        checked=None if checked is None else dict(checked),
    )
    sign_into_ledger(acceptance_statement(acceptance))
    return acceptance


def tell_dvc(accepted: Sequence[Candidate], graph: RunGraph) -> None:
    """`dvc commit`: dvc.lock names the code that stands there now, and nothing else of it changes.

    Raises RefusedError, with dvc.lock as it was, when anything was edited since the stages were looked at.
    """
    before = LOCK.read_bytes()
    names = [each.stage for each in accepted]
    command = [sys.executable, "-m", "dvc", "commit", "--force", "--quiet", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        again = f"run it again: dvc commit {' '.join(names)}"
        raise WhaleError("dvc commit failed", found=done.stderr.strip()[-300:], remedy=again)
    old, new = (parse(text.decode())["stages"] for text in (before, LOCK.read_bytes()))
    for each in accepted:
        if each.change is not None and (
            wrong := _other_than(old[each.stage], new[each.stage], _after(each.change, graph))
        ):
            write_atomically(LOCK, before)
            raise RefusedError(
                "it was edited meanwhile, or a folder holds what is no code of the stage",
                place=each.stage, found=wrong, remedy="dvc.lock is as it was; look at `dvc status`, and accept again",
            )  # fmt: skip


def _require_unedited(change: CodeChange, graph: RunGraph) -> None:
    """A sample may have taken hours."""
    now = code_change(change.run, graph, Path.cwd())
    if now.files != change.files:
        edited = sorted(name for name in {*now.files, *change.files} if now.files.get(name) != change.files.get(name))
        raise RefusedError("edited meanwhile", place=change.run.name, found=", ".join(edited))


def _other_than(old: Mapping[str, Any], new: Mapping[str, Any], code: Mapping[str, Any]) -> str | None:
    """What `dvc commit` has noted beside the accepted code."""
    for key in {*old, *new} - {"deps"}:
        if old.get(key) != new.get(key):
            return key
    then = {row["path"]: row for row in old.get("deps", [])}
    for row in new.get("deps", []):
        if row != (code_row(row["path"], code) if is_code(row["path"]) else then.get(row["path"])):
            return row["path"]
    return None


def _after(change: CodeChange, graph: RunGraph) -> dict[str, dict[str, Any]]:
    rows = graph.code_now(change.run) | {name: row for name, row in change.files.items() if row is not None}
    return dict(sorted((name, row) for name, row in rows.items() if change.files.get(name, row) is not None))


def _candidate(name: str, changes: Sequence[Any], graph: RunGraph, root: Path, sha256: Hasher) -> Candidate:
    others = _beside_code(changes)
    if others:
        return Candidate(name, None, f"more than its code differs: {', '.join(others)}")
    runs = graph.standing(name, sha256)
    if not runs:
        return Candidate(name, None, "no run of the ledger made what lies there")
    if (damage := _damage(runs[0], sha256)) is not None:
        return Candidate(name, None, damage)
    return Candidate(name, code_change(runs[0], graph, root), None)


def _beside_code(changes: Sequence[Any]) -> list[str]:
    found = []
    for each in changes:
        if not isinstance(each, dict):
            found.append(str(each))
            continue
        for kind, paths in each.items():
            found += [path for path in paths if kind != "changed deps" or not is_code(path)]
    return found


def _damage(run: StageRun, sha256: Hasher) -> str | None:
    """What is wrong with the outputs: nobody may accept code for bytes that it did not make."""
    for out in run.outputs:
        try:
            if Path(out).name == MANIFEST_NAME:
                verify_sealed(Path(out).parent, sha256)
        except (MismatchError, MissingInputError) as error:
            return f"{error.what}: {error.file}"
    return None
