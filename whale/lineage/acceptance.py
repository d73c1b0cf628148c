"""Acceptances: signed statements that an edit of a stage's code changes nothing (predicate urn:whale:acceptance:1).

`basis` says how it is known: "syntax" is a proof (equal trees, see syntax.py), "claim" is somebody's word. The subjects
are the outputs of the run whose code was edited; `files` leads from the code that ran to the code that stands for it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from whale.lineage.statement import in_toto

ACCEPTANCE_TYPE = "urn:whale:acceptance:1"

Basis = Literal["syntax", "claim"]
FileRow = dict[str, Any]  # as `closure.code_files` gives it


@dataclass(frozen=True)
class Acceptance:
    """`statement`: id of the run's line of the ledger; `files`: path -> its row now, None for one that is gone.

    `before`: path -> sha256 of what it replaces; `checked`: what a run of a sample gave, if there was one.
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
    checked: dict[str, Any] | None = None

    def describe(self) -> str:
        """For people: what was accepted when, and on what ground."""
        ground = "equal syntax" if self.basis == "syntax" else f"claimed: {self.because}"
        return f"{', '.join(sorted(self.files))} on {self.accepted} ({ground})"


def acceptance_statement(acceptance: Acceptance, subjects: Mapping[str, str]) -> dict[str, Any]:
    """The statement to sign; `subjects`: path -> sha256 of the run's outputs."""
    rows = [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(subjects.items())]
    return in_toto(ACCEPTANCE_TYPE, rows, asdict(acceptance))


def acceptance_of(statement: Mapping[str, Any]) -> Acceptance | None:
    """The acceptance in a statement; None for another kind of statement."""
    if statement.get("predicateType") != ACCEPTANCE_TYPE:
        return None
    return Acceptance(**statement["predicate"])


def overlaid(closure: Mapping[str, FileRow], accepted: Acceptance) -> dict[str, FileRow]:
    """The code files that stand for `closure` after `accepted`."""
    rows = dict(closure)
    for name, row in accepted.files.items():
        if row is None:
            rows.pop(name, None)
        else:
            rows[name] = row
    return dict(sorted(rows.items()))
