"""The local MLflow store against the ledger: what its page shows must be what was signed.

MLflow lets anybody rewrite a tag or a row without a trace. Each of its runs carries the digest of its derivation, which
leads to the signed run. Read as rows, without MLflow. Says nothing of runs that MLflow does not have: tracking
may be lost, and nothing depends on it.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whale.audit.checks.findings import Finding
from whale.audit.run_graph import StageRun
from whale.common.errors import BadDataError
from whale.common.files import MANIFEST_NAME
from whale.common.json_files import canonical_json, flatten
from whale.lineage.statement import floats_as_text
from whale.tracking.mlflow_rows import opened
from whale.tracking.spooled_run import MAX_NAME, MAX_TEXT  # longer ones were cut when they were logged

STORE = Path("mlflow.db")
ARTIFACT, DERIVATION, PROFILE, SPOOL = "whale.artifact.", "whale.derivation", "whale.profile", "whale.spool_id"


@dataclass
class TrackedRun:
    """Tags and params of one MLflow run, as they stand in the store."""

    uuid: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


def check_tracking(runs: Iterable[StageRun], store: Path = STORE) -> Iterator[Finding]:
    """A finding for every tag or param of a tracked run of `runs` that is not what was signed; one alone for a store
    that cannot be read, or not within the limits."""
    if not store.is_file():
        return
    signed = defaultdict(list)
    for run in runs:
        signed[str(run.internal["derivation_sha256"])].append(run)
    try:
        tracked = _read(store)
    except BadDataError as error:  # also what is beyond a limit
        yield Finding.of("MLflow", error)
        return
    for each in tracked:
        digest = each.tags.get(DERIVATION, "")
        candidates = signed.get(digest) or _by_spool(each, signed)
        if candidates and (wrong := min((_differences(each, run) for run in candidates), key=len)):
            for name, found, expected in wrong:
                what = f"{name} of the MLflow run {each.uuid} was edited"
                yield Finding("mismatch", candidates[0].name, what, str(store), found[:160], expected[:160])


def _read(store: Path) -> list[TrackedRun]:
    found: dict[str, TrackedRun] = {}
    with opened(store) as rows:
        for table in ("tags", "params"):
            for uuid, name, value in rows.of(table, ["run_uuid", "key", "value"]):
                run = found.setdefault(str(uuid), TrackedRun(str(uuid)))
                getattr(run, table)[str(name)] = str(value)  # whatever it is: only a text can be as signed
    return [found[uuid] for uuid in sorted(found)]


def _by_spool(each: TrackedRun, signed: Mapping[str, list[StageRun]]) -> list[StageRun]:
    """The signed runs that the name of the spool file points at, when the derivation's tag points nowhere."""
    start = each.tags.get(SPOOL, "").rpartition("-")[0]
    return [run for digest, runs in signed.items() for run in runs if start == f"{run.name}-{digest[:16]}"]


def _differences(each: TrackedRun, run: StageRun) -> list[tuple[str, str, str]]:
    """(name, found, signed) of every tag and param that is not as signed; names that nobody signed are left alone."""
    tags = {DERIVATION: str(run.internal["derivation_sha256"]), PROFILE: str(run.internal.get("profile"))}
    for name, sha256 in run.subjects.items():
        path = Path(name)
        shown = path.parent if path.name == MANIFEST_NAME else path
        tags[f"{ARTIFACT}{shown.as_posix()}"[:MAX_NAME]] = sha256
    params = {name[:MAX_NAME]: value for name, value in flatten(run.params).items()}
    wrong = [
        (f"tag '{name}'", each.tags[name], expected)
        for name, expected in tags.items()
        if name in each.tags and each.tags[name] not in (expected, "not hashed")
    ]
    wrong += [
        (f"param '{name}'", each.params[name], str(expected))
        for name, expected in params.items()
        if name in each.params and not _is_logged_form(each.params[name], expected)
    ]
    return wrong + [(f"tag '{DERIVATION}'", "none", tags[DERIVATION])] * (DERIVATION not in each.tags)


def _is_logged_form(text: str, signed: Any) -> bool:
    """Whether `text`, the `str` of a value, is that of `signed`, whose floats are texts. A text that was cut when it
    was logged cannot be told."""
    if text == str(signed) or len(text) >= MAX_TEXT:
        return True
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return canonical_json(floats_as_text(value)) == canonical_json(signed)
