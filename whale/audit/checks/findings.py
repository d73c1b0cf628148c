"""What an audit found: each finding names its file, what it is about, and what breaks below it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from whale.common.errors import WhaleError
from whale.common.printable import one_line

CODES = {"mismatch": 1, "remade": 1, "edited": 1, "missing": 2, "signature": 3, "incomplete": 4, "tainted": 5}
PRECEDENCE = ("mismatch", "remade", "edited", "signature", "missing", "incomplete", "tainted")


@dataclass(frozen=True)
class Finding:
    """`kind` is a key of CODES; `where` the stage run, or the part of the lineage, that it was found at.

    "mismatch": a byte is not the one that was signed. "remade": a later signed run made it anew. "edited": a setting
    has another value than a run had.
    """

    kind: str
    where: str
    what: str
    file: str | None = None
    found: str | None = None
    expected: str | None = None
    remedy: str | None = None

    @classmethod
    def of(cls, where: str, error: WhaleError) -> "Finding":
        """An error of the checks that stages make, too."""
        kind = next((kind for kind, code in CODES.items() if code == error.exit_code), "mismatch")
        fields = (error.file, error.found, error.expected, error.remedy)
        texts = [None if each is None else str(each)[:200] for each in fields]
        place = f" ({error.place})" if error.place else ""
        return cls(kind, where, f"{error.what}{place}", *texts)

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value is not None}

    def __str__(self) -> str:
        lines = [f"{self.kind.upper()}  {one_line(self.where)}: {one_line(self.what)}"]
        fields = ("file", "found", "expected", "remedy")
        lines += [f"  {key + ':':<10}{one_line(value)}" for key in fields if (value := getattr(self, key)) is not None]
        return "\n".join(lines)


@dataclass
class Report:
    """Findings in the order from the sources down; the first broken link comes first."""

    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    broken_below: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was not checked, and why
    root: dict[str, Any] | None = None  # of trust: fingerprint, pinned (where), signers

    def add(self, finding: Finding | None) -> None:
        if finding is not None and finding not in self.findings:
            self.findings.append(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.add(finding)

    def count(self, what: str, number: int = 1) -> None:
        self.checked[what] = self.checked.get(what, 0) + number

    @property
    def code(self) -> int:
        """The exit code: that of the first kind of PRECEDENCE that was found; 0 if there is none."""
        kinds = {finding.kind for finding in self.findings}
        return next((CODES[kind] for kind in PRECEDENCE if kind in kinds), 0)

    def as_dict(self) -> dict[str, Any]:
        return {
            "exit_code": self.code,
            "findings": [finding.as_dict() for finding in self.findings],
            "broken_below": self.broken_below,
            "checked": self.checked,
            "notes": self.notes,
            "root": self.root,
        }
