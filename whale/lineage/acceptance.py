"""Acceptances: signed statements that an edit of a stage's code changes nothing (predicate urn:whale:acceptance:1).

`basis` says how it is known: "syntax" is a proof (equal trees, see syntax.py), "claim" is somebody's word. The subjects
are the outputs of the run whose code was edited; `files` leads from the code that ran to the code that stands for it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from whale.common.errors import MismatchError
from whale.lineage.closure import closure_digest
from whale.lineage.statement import PLACE, in_toto

ACCEPTANCE_TYPE = "urn:whale:acceptance:1"

Basis = Literal["syntax", "claim"]
FileRow = dict[str, Any]  # as `closure.code_files` gives it
ROW = {"bytes", "md5", "sha256", "syntax"}


@dataclass(frozen=True)
class Acceptance:
    """`statement`: id of the run's line of the ledger; `files`: path -> its row now, None for one that is gone.

    `before`: path -> sha256 of what it replaces; `outputs`: path -> sha256 of what the run made; `checked`: what a run
    of a sample gave, if there was one.
    """

    stage: str
    statement: str
    accepted: str
    basis: Basis
    because: str | None
    files: dict[str, FileRow | None]
    before: dict[str, str | None]
    commit: str | None
    tree: str | None
    closure_sha256: str
    outputs: dict[str, str]
    checked: dict[str, Any] | None = None

    def describe(self) -> str:
        """For people: what was accepted when, and on what ground."""
        ground = "equal syntax" if self.basis == "syntax" else f"claimed: {self.because}"
        return f"{', '.join(sorted(self.files))} on {self.accepted} ({ground})"


def acceptance_statement(acceptance: Acceptance) -> dict[str, Any]:
    """The statement to sign."""
    rows = [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(acceptance.outputs.items())]
    predicate = {name: value for name, value in asdict(acceptance).items() if name != "outputs"}
    return in_toto(ACCEPTANCE_TYPE, rows, predicate)


def acceptance_of(statement: Mapping[str, Any]) -> Acceptance | None:
    """The acceptance in a statement; None for another kind of statement, MismatchError for one that is malformed."""
    if statement.get("predicateType") != ACCEPTANCE_TYPE:
        return None
    try:
        outputs = {row["name"]: row["digest"]["sha256"] for row in statement["subject"]}
        predicate = {name: value for name, value in statement["predicate"].items() if name != PLACE}
        found = Acceptance(**predicate, outputs=outputs)
        rows = [row for row in found.files.values() if row is not None]
        is_whole = found.basis in ("syntax", "claim") and set(found.files) == set(found.before)
        is_whole &= all(set(row) == ROW and isinstance(row["bytes"], int) for row in rows)
        is_whole &= isinstance(found.stage, str) and isinstance(found.statement, str)
    except (TypeError, KeyError, AttributeError) as error:
        raise MismatchError("not an acceptance of this version", found=str(error)[:120]) from None
    if not is_whole:
        raise MismatchError("not an acceptance of this version", found=str(statement["predicate"])[:120])
    return found


def accepted_run(statement: Mapping[str, Any]) -> str | None:
    """Id of the run's line of the ledger that an acceptance is about; None for another kind of statement."""
    return statement["predicate"].get("statement") if statement.get("predicateType") == ACCEPTANCE_TYPE else None


def fault_of(
    accepted: Acceptance, closure: Mapping[str, FileRow], stage: str, outputs: Mapping[str, str]
) -> str | None:
    """What is wrong with an acceptance of `stage`, whose code was `closure` before it; None if it holds."""
    if accepted.stage != stage or accepted.outputs != dict(outputs):
        return "it is about another stage or other outputs"
    for name, row in accepted.files.items():
        known = closure.get(name)
        if accepted.before[name] != (known["sha256"] if known else None):
            return f"{name} was not what it says that it replaces"
        if accepted.basis == "syntax" and (row is None or known is None or row["syntax"] != known["syntax"]):
            return f"{name} is not the same code"
    if closure_digest(overlaid(closure, accepted)) != accepted.closure_sha256:
        return "the code that it leads to has another digest"
    return None


def overlaid(closure: Mapping[str, FileRow], accepted: Acceptance) -> dict[str, FileRow]:
    """The code files that stand for `closure` after `accepted`."""
    rows = dict(closure)
    for name, row in accepted.files.items():
        if row is None:
            rows.pop(name, None)
        else:
            rows[name] = row
    return dict(sorted(rows.items()))
