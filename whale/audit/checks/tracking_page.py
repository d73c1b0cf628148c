"""All that MLflow's page shows against the signed record (`whale track verify`).

A statement holds the sha256 of what its stage told the spool. From spools that are as they were signed the store is
made anew, beside the real one, by the same code; then every row of every table that the page shows must be the same:
metrics with their steps and times, params, tags, names, status, data sets, models. Ids and times of MLflow's own are no
news. The copies of pictures are not compared.
"""

import hashlib
import re
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from whale.audit.checks.findings import Finding, Report
from whale.audit.checks.ledger_check import asked_of_git, check_ledger
from whale.audit.checks.trust_chain import judge
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.errors import BadDataError, MissingInputError, WhaleError
from whale.lineage import ledger
from whale.lineage.trust import read_trust
from whale.tracking import mlflow_store
from whale.tracking.mlflow_rows import StoreRows, opened
from whale.tracking.mlflow_store import bytes_of
from whale.tracking.spool import SPOOL_DIR
from whale.tracking.spooled_run import lines_of

STORE = Path(mlflow_store.STORE)
SHOWN = re.compile(
    r"experiments|experiment_tags|runs|tags|params|metrics|latest_metrics|datasets|inputs|input_tags|logged_model\w*"
    r"|registered_model\w*|model_version\w*|entity_associations|issues|assessments|trace_\w*|span\w*"
    r"|evaluation_dataset\w*"
)
NAMING = {  # columns that give ids their words; a store without them is none
    "tags": ("run_uuid", "key", "value"),
    "runs": ("run_uuid", "name", "start_time"),
    "experiments": ("experiment_id", "name"),
    "datasets": ("dataset_uuid", "experiment_id", "name", "digest"),
    "logged_models": ("model_id", "name", "creation_timestamp_ms", "source_run_id"),
    "inputs": ("input_uuid", "source_id", "destination_id"),
}
OWN = {  # of MLflow, of the machine that replayed, or of the moment
    *("creation_time", "created_time", "last_update_time", "last_updated_time", "last_updated_timestamp"),
    *("creation_timestamp_ms", "last_updated_timestamp_ms", "artifact_uri", "artifact_location", "storage_location"),
    *("association_id", "deleted_time", "workspace", "user_id"),
}
UNSIGNED_TAGS = {"mlflow.user"}  # who replayed
ID = re.compile(r"(m-)?[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BELOW = re.compile(r"^file:///.*?/artifacts/(?=[a-z0-9_-]+/(?:models|reward)/)")  # a project that moved keeps its page
MAX_SHOWN = 40

Row = tuple[tuple[str, Any], ...]


def verify_page(expect_root: str | None = None) -> Report:
    """Of the store in the current folder, brought up to date before. MissingInputError where there is none."""
    if not STORE.is_file():
        raise MissingInputError("MLflow has nothing to show", file=STORE, remedy="`whale track sync`")
    report = Report()
    graph = RunGraph(check_ledger(report, expect_root=expect_root))
    report.extend(Finding.of(f"ledger line {entry.line}", error) for entry, error in graph.malformed)
    spools = {path.stem: path for path in sorted(SPOOL_DIR.glob("*.jsonl"))}
    report.extend(_check_spools(graph, spools, report))
    if torn := sum(lines_of(bytes_of(path), path)[1] for path in spools.values()):
        report.count("torn lines of spools, left out", torn)
    with tempfile.TemporaryDirectory(prefix="whale-mlflow-") as scratch:
        fresh = Path(scratch) / STORE.name
        _replay(spools, Path(scratch), fresh)
        try:
            found = _shown(STORE)
        except BadDataError as error:  # also what is beyond a limit
            report.add(Finding.of("MLflow", error))
            return report
        expected = _shown(fresh)
    report.count("rows of MLflow", sum(map(lambda rows: rows.total(), found.values())))
    differences = [each for table in sorted({*found, *expected}) for each in _differences(table, found, expected)]
    report.extend(differences[:MAX_SHOWN])
    if len(differences) > MAX_SHOWN:
        report.notes.append(f"{len(differences) - MAX_SHOWN} more rows differ")
    return report


def _check_spools(graph: RunGraph, spools: Mapping[str, Path], report: Report) -> Iterator[Finding]:
    """Each spool of a signed run is as it was signed; no other says of itself that its run ended well."""
    own, elsewhere = _by_spool(graph.runs), _by_spool(_runs_of_experiments(report))
    signed = own | {spool_id: run for spool_id, run in elsewhere.items() if spool_id in spools.keys() - own.keys()}
    for spool_id, run in signed.items():
        if spool_id not in spools:
            yield Finding("missing", run.name, "what this run told MLflow is gone", f"{SPOOL_DIR / spool_id}.jsonl")
        elif (wrong := _fault(bytes_of(spools[spool_id]), run)) is not None:
            yield Finding("mismatch", run.name, f"what this run told MLflow: {wrong}", str(spools[spool_id]))
        else:
            report.count("runs as signed")
    for spool_id in sorted(spools.keys() - signed.keys()):
        lines, _ = lines_of(bytes_of(spools[spool_id]), spools[spool_id])
        if lines and lines[-1].get("status") == "FINISHED":
            yield Finding("signature", spool_id, "nobody signed this run, which says that it ended well",
                          str(spools[spool_id]))  # fmt: skip
        else:
            report.count("runs that did not end well, and that nobody signs")


def _by_spool(runs: Iterable[StageRun]) -> dict[str, StageRun]:
    return {str(told.get("spool")): run for run in runs if isinstance(told := run.internal.get("spool"), dict)}


def _runs_of_experiments(report: Report) -> Iterator[StageRun]:
    """DVC keeps the ledger of an experiment that nobody has applied in git; its signatures must hold as ours do.

    What cannot be read of one is told: its runs were not checked.
    """
    listed = asked_of_git(report, Path(), "the runs of DVC's experiments", "for-each-ref", "--format=%(objectname)",
                          "refs/exps")  # fmt: skip
    try:
        trust = read_trust()
    except WhaleError:
        return  # told with the ledger here
    if trust is None:
        return
    for commit in sorted(set((listed or b"").decode().split())):
        place = f"{commit}:{ledger.LEDGER}"
        what = f"the runs of DVC's experiment {commit[:12]}"
        if not asked_of_git(report, Path(), what, "ls-tree", "--name-only", commit, "--", str(ledger.LEDGER)):
            continue  # it has none
        if (payload := asked_of_git(report, Path(), what, "show", place)) is None:
            continue
        try:
            entries = ledger.entries_of(payload, Path(place))
        except WhaleError as error:
            found = f"{error.what}{f', {error.place}' if error.place else ''}"
            report.add(Finding("incomplete", f"experiment {commit[:12]}", "not checked: its ledger cannot be read",
                               place, found, None, "`dvc exp remove` takes it away"))  # fmt: skip
            continue
        unheld = {entry.line for entry, _ in judge(entries, trust).faults}
        graph = RunGraph(entry for entry in entries if entry.line not in unheld)
        report.extend(
            Finding.of(f"experiment {commit[:12]}, line {entry.line}", fault) for entry, fault in graph.malformed
        )
        yield from graph.runs


def _fault(payload: bytes, run: StageRun) -> str | None:
    """What is wrong with a spool; after what was signed comes one line alone, the end."""
    told = run.internal["spool"]
    size = told.get("bytes")
    if not isinstance(size, int) or hashlib.sha256(payload[:size]).hexdigest() != told.get("sha256"):
        return "not what was signed"
    rest, torn = lines_of(payload[size:], run.name)
    if not rest and not torn:
        return None  # killed before its last line
    if not rest or torn:
        return "more was added than its end"
    tags = {"whale.compute_s": told.get("compute_s"), "whale.run": run.run_id}
    tags["whale.commit"] = run.code["commit"] or "none"
    (end, *more), given = rest, rest[0].get("tags", {})
    is_end = not more and end.get("kind") == "end" and end.get("status") == "FINISHED" and isinstance(given, dict)
    if not is_end or any(given[name] != tags.get(name) for name in given):
        return "more was added than its end"
    return None


def _replay(spools: Mapping[str, Path], scratch: Path, store: Path) -> None:
    """A store made of these spools alone. Its pictures lie in this folder for a while: what is replayed may look at
    what lies beside them."""
    folder, pictures = scratch / "spool", Path(f".mlruns-{secrets.token_hex(8)}").absolute()
    folder.mkdir()
    for path in spools.values():
        shutil.copyfile(path, folder / path.name)
    try:
        mlflow_store.replay(folder, f"sqlite:///{store}", pictures, Path.cwd())
    finally:
        shutil.rmtree(pictures, ignore_errors=True)


def _shown(store: Path) -> dict[str, Counter[Row]]:
    """Table -> its rows, every id by what it stands for. BadDataError for a store that cannot be read."""
    with opened(store) as rows_of:
        for name, columns in NAMING.items():
            rows_of.require(name, columns)
        tables = {name: _rows(rows_of, name) for name in rows_of.tables() if SHOWN.fullmatch(name)}
    labels = _labels(tables)
    found = {name: Counter(_row(name, row, labels) for row in rows) for name, rows in tables.items()}
    return {name: Counter({row: count for row, count in rows.items() if row}) for name, rows in found.items()}


def _rows(rows: StoreRows, table: str) -> list[dict[str, Any]]:
    columns = rows.columns(table)
    return [dict(zip(columns, row, strict=True)) for row in rows.of(table, columns)]


def _labels(tables: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    """id -> words that are the same in every replay."""
    labels: dict[str, str] = {}
    uses: Counter[str] = Counter()

    def name(key: Any, words: str) -> None:
        uses[words] += 1
        labels[str(key)] = words if uses[words] == 1 else f"{words} ({uses[words]})"

    spool_of = {row["run_uuid"]: row["value"] for row in tables["tags"] if row["key"] == mlflow_store.SPOOL_TAG}
    for row in sorted(tables["runs"], key=lambda row: (str(row["name"]), _moment(row["start_time"]))):
        name(row["run_uuid"], f"run {spool_of.get(row['run_uuid'], row['name'])}")
    for row in tables["experiments"]:
        labels[f"experiment_id {row['experiment_id']}"] = f"experiment {row['name']}"
    for row in tables["datasets"]:
        where = labels.get(f"experiment_id {row['experiment_id']}", row["experiment_id"])
        name(row["dataset_uuid"], f"data {row['name']} {row['digest']} of {where}")
    models = tables["logged_models"]
    for row in sorted(models, key=lambda row: (str(row["name"]), _moment(row["creation_timestamp_ms"]))):
        name(row["model_id"], f"model {row['name']} of {labels.get(str(row['source_run_id']), 'no run')}")
    for row in tables["inputs"]:
        ends = [labels.get(str(row[key]), str(row[key])) for key in ("source_id", "destination_id")]
        labels[str(row["input_uuid"])] = f"input {ends[0]} of {ends[1]}"
    return labels


def _moment(value: Any) -> float:
    """SQLite keeps whatever was written into a column of numbers."""
    return value if isinstance(value, int | float) else 0


def _row(table: str, row: Mapping[str, Any], labels: Mapping[str, str]) -> Row:
    if table == "tags" and row["key"] in UNSIGNED_TAGS:
        return ()
    found = []
    for column, value in row.items():
        if column in OWN:
            continue
        if column == "source" and isinstance(value, str):
            value = BELOW.sub("artifacts/", value)
        if column == "experiment_id":
            value = labels.get(f"experiment_id {value}", value)
        elif isinstance(value, str):
            value = ID.sub(lambda match: labels.get(match[0], match[0]), value)
        found.append((column, value))
    return tuple(sorted(found))


def _differences(table: str, found: Mapping[str, Counter[Row]], expected: Mapping[str, Counter[Row]]) -> list[Finding]:
    """Rows that are more or less than they should be; two that differ in little are one that was edited."""
    here, should = found.get(table, Counter()), expected.get(table, Counter())
    more, less, findings = [*(here - should).elements()], [*(should - here).elements()], []
    for number, row in enumerate(more):  # behind those that are shown, each alone: all pairs of many are too many
        near = max(less, key=lambda other: _common(row, other), default=None) if number < MAX_SHOWN else None
        if near is not None and 2 * _common(row, near) >= len(row):
            less.remove(near)
            changed = [(name, value, dict(near).get(name)) for name, value in row if dict(near).get(name) != value]
            what = f"{', '.join(name for name, _, _ in changed)} of {_named(table, near)} was edited"
            values = [", ".join(str(each[place]) for each in changed)[:160] for place in (1, 2)]
            findings.append(Finding("mismatch", "MLflow", what, str(STORE), *values))
        else:
            findings.append(Finding("mismatch", "MLflow", f"{_named(table, row)} was added", str(STORE)))
    return findings + [Finding("mismatch", "MLflow", f"{_named(table, row)} is gone", str(STORE)) for row in less]


def _common(one: Row, other: Row) -> int:
    return len(set(one) & set(other))


def _named(table: str, row: Row) -> str:
    values = dict(row)
    shown = ("key", "metric_name", "param_key", "tag_key", "name", "step", "run_uuid", "model_id", "destination_id")
    words = [str(values[name])[:120] for name in shown if values.get(name) not in (None, "")]
    return f"{table} {', '.join(words)}"
