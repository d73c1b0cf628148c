"""Taints: signed, append-only statements that something must not be built upon (predicate urn:whale:taint:1).

A taint names bytes: a published folder or file by its sha256, a dataset by the digest of its upstream files, or one
episode of a dataset by its payload. `lineage/taints/` holds a copy of each, so that a stage that has none to mind looks
at an empty folder and nothing else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.errors import MismatchError, WhaleError
from whale.common.json_files import read_json
from whale.lineage.signing import payload_of
from whale.lineage.statement import in_toto

TAINT_TYPE = "urn:whale:taint:1"
TAINTS_DIR = Path("lineage/taints")


@dataclass(frozen=True)
class Taint:
    """`kind`: artefact, dataset or episode; `sha256`: of its manifest or bytes, upstream files, or payload."""

    kind: str
    name: str
    sha256: str
    reason: str
    dataset_sha256: str | None = None  # of an episode
    reached: tuple[str, ...] = ()  # sha256 of every output that had been made from it when it was declared

    def describe(self) -> str:
        return f"{self.name} ({self.reason})"


def taint_statement(taint: Taint, declared: str) -> dict[str, Any]:
    """The statement to sign; `declared`: ISO time."""
    predicate: dict[str, Any] = {"kind": taint.kind, "reason": taint.reason, "declaredOn": declared}
    if taint.dataset_sha256:
        predicate["datasetSha256"] = taint.dataset_sha256
    if taint.reached:
        predicate["reachedSha256"] = list(taint.reached)
    return in_toto(TAINT_TYPE, [{"name": taint.name, "digest": {"sha256": taint.sha256}}], predicate)


def taint_of(statement: Mapping[str, Any]) -> Taint | None:
    """The taint that a statement declares; None for another kind of statement, MismatchError for one malformed."""
    if statement.get("predicateType") != TAINT_TYPE:
        return None
    try:
        (subject,) = statement["subject"]
        predicate = statement["predicate"]
        texts = [predicate["kind"], subject["name"], subject["digest"]["sha256"], predicate["reason"]]
        dataset, reached = predicate.get("datasetSha256"), tuple(predicate.get("reachedSha256", ()))
        is_sane = all(isinstance(each, str) for each in (*texts, *reached, dataset or ""))
    except (KeyError, TypeError, ValueError, AttributeError):
        is_sane = False
    if not is_sane:
        raise MismatchError("not a taint of this version", found=str(statement.get("subject"))[:120])
    kind, name, digest, reason = texts
    return Taint(kind, name, digest, reason, dataset, reached)


def kept_taints() -> list[Taint]:
    """Those of the files of TAINTS_DIR, sorted by name; MismatchError names one that cannot be read."""
    files = sorted(TAINTS_DIR.glob("*.dsse.json"))
    return [taint for path in files if (taint := _kept(path)) is not None]


def _kept(path: Path) -> Taint | None:
    """Of one file: a taint that cannot be read must not pass for none."""
    try:
        return taint_of(payload_of(read_json(path)))
    except WhaleError as error:
        raise MismatchError("not a taint that can be read", file=path, found=error.found or error.what,
                            remedy="take it from git") from None  # fmt: skip


def taints_of_inputs(
    taints: Iterable[Taint], digests: Iterable[str], summaries: Iterable[Mapping[str, Any] | None]
) -> list[Taint]:
    """Taints that reach a run: by the digests of its direct inputs, which may themselves be what had been made from
    something tainted, or by the datasets that the inputs' lineage.json names."""
    found, ids = set(digests), set()
    for summary in summaries:
        ids |= {row["upstream"]["sha256"] for row in (summary or {}).get("datasets", [])}
    found |= ids
    return [
        taint
        for taint in taints
        if (taint.dataset_sha256 or taint.sha256) in found or not found.isdisjoint(taint.reached)
    ]
