"""Has anything changed: every byte that the artefact came from (Q9). Ledger and signatures: ledger_check.py.

From the sources down to the artefact, each run's outputs, inputs, record, parameters and code are held against its
statement. Nothing here needs a server, a clock or a network.
"""

import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from whale.audit.checks.findings import Finding, Report
from whale.audit.checks.params_check import check_settings
from whale.audit.run_graph import RunGraph, StageRun, Target
from whale.common.errors import IncompleteError, MismatchError, MissingInputError, WhaleError
from whale.common.files import MANIFEST_NAME
from whale.lineage import ledger
from whale.lineage.acceptance import fault_of
from whale.lineage.code_state import git, no_repository
from whale.lineage.file_digests import FileDigests
from whale.lineage.inputs import prove_input
from whale.lineage.syntax import digest_of_source
from whale.lineage.taint import Taint
from whale.seal import Hasher, names_below, read_manifest, verify_file

MAX_LEAD = timedelta(seconds=300)  # a run may not begin earlier than that before an input was finished


def verify(target: Target, graph: RunGraph, report: Report, sha256: Hasher, strict: bool = False) -> Report:
    """Hold `target` and all that it came from against the ledger; `sha256` decides how much is read again."""
    ancestors = graph.ancestors(target.run)
    checked: dict[tuple[str, str], list[Finding]] = {}
    for run in ancestors:
        before = len(report.findings)
        report.extend(_check_outputs(run, target, graph, sha256, checked, report))
        report.extend(unmade_inputs(run, graph))
        report.extend(_check_sources(run, graph, sha256, checked))
        report.extend(_check_record(run, sha256))
        report.extend(check_times(run, graph))
        report.extend(check_tree(run, report, strict))
        report.extend(check_taints(run, graph.taints))
        if len(report.findings) > before and not report.broken_below:
            report.broken_below = _below(run, graph, ancestors)
        report.count("runs")
        report.extend(_check_acceptances(run, graph, report))
    for entry, error in graph.malformed:
        report.add(Finding.of(f"ledger line {entry.line}", error))
    report.extend(_check_commits(ancestors, report, strict))
    report.extend(check_settings(ancestors, graph.runs, target.run))
    return report


def _check_acceptances(run: StageRun, graph: RunGraph, report: Report) -> Iterable[Finding]:
    """Each is proven once more, from the code that ran to the code that stands there now."""
    outputs = {name: run.subjects[name] for name in run.outputs}
    for accepted, closure in zip(graph.acceptances(run), graph.codes(run), strict=False):
        fault = fault_of(accepted, closure, run.name, outputs)
        for name, row in accepted.files.items():
            if fault is None and row is not None and Path(name).is_file():
                payload = Path(name).read_bytes()
                is_it = hashlib.sha256(payload).hexdigest() == row["sha256"]
                fault = f"{name} has another syntax" if is_it and digest_of_source(payload) != row["syntax"] else None
        if fault is not None:
            yield Finding(
                "mismatch", run.name, f"an acceptance of edited code does not hold: {fault}", str(ledger.LEDGER)
            )
        else:
            report.count(f"edits of code accepted by {'equal syntax' if accepted.basis == 'syntax' else 'a claim'}")


def make_hasher(deep: bool, state_dir: Path = Path(".whale")) -> FileDigests:
    """Without `deep`, a file of the same size, times and inode as when it was last read is not read again."""
    return FileDigests(state_dir / "verify-cache.json", paranoid=deep)


def _check_outputs(
    run: StageRun,
    target: Target,
    graph: RunGraph,
    sha256: Hasher,
    checked: dict[tuple[str, str], list[Finding]],
    report: Report,
) -> Iterable[Finding]:
    for name in run.outputs:
        path = target.path if run is target.run and name == target.name else Path(name)
        key = (str(path), run.subjects[name])
        if key not in checked:
            checked[key] = list(_check_output(run, path, run.subjects[name], sha256, graph))
            report.count("outputs")
        yield from checked[key]


def _check_output(run: StageRun, path: Path, expected: str, sha256: Hasher, graph: RunGraph) -> Iterator[Finding]:
    """Also where the manifest is another one: each file of the folder against what the manifest there says."""
    if not path.is_file():
        yield Finding.of(run.name, MissingInputError("what this run made is gone", file=path))
        return
    found = sha256(path)
    later = [maker for maker in graph.makers(found) if maker.name == run.name and maker.entry.line > run.entry.line]
    if found != expected and not later:
        error = MismatchError("not what this run made", file=path, found=found, expected=expected)
        yield Finding.of(run.name, error)
    if path.name == MANIFEST_NAME:
        for fault in folder_faults(path.parent, sha256):
            yield Finding.of(run.name, fault)
    if found != expected and later:
        what = f"run {later[-1].run_id} made it anew on {later[-1].finished}"
        remedy = "`dvc repro` makes anew what follows from it; or check out the dvc.lock of then, and `dvc checkout`"
        yield Finding("remade", run.name, what, str(path), found, expected, remedy)


def folder_faults(folder: Path, sha256: Hasher) -> Iterator[WhaleError]:
    """Every file of a sealed folder that is not as its manifest says: a stage stops at the first, an auditor asks for
    all."""
    try:
        rows = read_manifest(folder)
    except WhaleError as error:
        yield error
        return
    for name in sorted(names_below(folder) - rows.keys() - {MANIFEST_NAME}):
        remedy = f"remove it, or make {folder} again"
        yield MismatchError("a file that the manifest does not list", file=folder / name, remedy=remedy)
    for name, row in rows.items():
        try:
            verify_file(folder / name, row, sha256)
        except WhaleError as error:
            yield error


def unmade_inputs(run: StageRun, graph: RunGraph) -> Iterable[Finding]:
    """Sealed inputs were made by an earlier run of the ledger."""
    for each in run.inputs:
        for name, digest in each.holders.items():
            makers = [maker for maker in graph.makers(digest) if maker.entry.line < run.entry.line]
            if not makers and Path(name).name == MANIFEST_NAME:
                error = IncompleteError("an input that no run of the ledger made", file=name, found=digest)
                yield Finding.of(run.name, error)


def _check_sources(
    run: StageRun, graph: RunGraph, sha256: Hasher, checked: dict[tuple[str, str], list[Finding]]
) -> Iterable[Finding]:
    """Files from outside must be as they were."""
    for each in run.inputs:
        if not any(graph.makers(digest) for digest in each.holders.values()):
            key = (each.path, each.sha256)
            if key not in checked:
                checked[key] = list(_check_source(run, Path(each.path), each.sha256, sha256))
            yield from checked[key]


def _check_source(run: StageRun, path: Path, expected: str, sha256: Hasher) -> Iterator[Finding]:
    try:
        if not path.exists():
            raise MissingInputError("a source is gone", file=path)
        if (found := prove_input(path, sha256).digest) != expected:
            raise MismatchError("a source is not what it was", file=path, found=found, expected=expected)
    except WhaleError as error:
        yield Finding.of(run.name, error)


def _check_record(run: StageRun, sha256: Hasher) -> Iterable[Finding]:
    """The files beside the statement, and what the stage's guard saw."""
    for path, expected in run.byproducts.values():
        try:
            if not Path(path).is_file():
                raise MissingInputError("a file of the run's record is gone", file=path)
            if (found := sha256(Path(path))) != expected:
                raise MismatchError("a file of the run's record was changed", file=path, found=found, expected=expected)
        except WhaleError as error:
            yield Finding.of(run.name, error)
    opened = run.byproducts.get("opened.json", ("opened.json", ""))[0]
    if run.internal.get("edited_meanwhile"):
        what = "code or a spec was edited while it ran; the record names the bytes of its beginning"
        yield Finding("incomplete", run.name, what, opened)
    if run.params.get("sample"):
        yield Finding("incomplete", run.name, "it did a part of its work only, to be compared with another such part")
    if run.internal.get("undeclared"):
        yield Finding("incomplete", run.name, "it read files or imported modules that it does not declare", opened)
    elif not run.internal.get("listened"):
        yield Finding("incomplete", run.name, "nobody listened to which files it opened", opened)


def check_times(run: StageRun, graph: RunGraph) -> Iterable[Finding]:
    """No run ended before it began, or began before what it read was finished."""
    started, finished = _time(run.started), _time(run.finished)
    if finished < started:
        yield Finding("mismatch", run.name, "it ended before it began", str(ledger.LEDGER), run.finished, run.started)
    for parent in graph.parents(run):
        if started + MAX_LEAD < _time(parent.finished):
            what = f"it began before its input of {parent.name} was finished"
            yield Finding("mismatch", run.name, what, str(ledger.LEDGER), run.started, parent.finished)


def check_tree(run: StageRun, report: Report, strict: bool) -> Iterator[Finding]:
    """A dirty tree is shown, and accepted unless `strict`."""
    commit = run.code["commit"]
    if run.code["dirty"] or commit is None:
        what = "ran on a tree with changes" if commit else "ran outside git, its code is known by closure.json only"
        if strict:
            name = "code.patch" if commit else "closure.json"
            yield Finding("incomplete", run.name, what, run.byproducts.get(name, (name, ""))[0])
        report.count(what)


def _check_commits(runs: Iterable[StageRun], report: Report, strict: bool) -> Iterator[Finding]:
    """The commits must still be there, each named once with all its runs. Without a repository nobody can look."""
    users: dict[str, list[str]] = {}
    for run in runs:
        if run.code["commit"] is not None:
            users.setdefault(str(run.code["commit"]), []).append(run.name)
    if users and (why := no_repository(Path.cwd())) is not None:
        report.notes.append(
            f"not checked: whether the {len(users)} commits of its code exist, and which heads and roots git "
            f"remembers, for git cannot be asked here ({why}). The code of each run is known by its files' sha256."
        )
        if strict:
            yield Finding("incomplete", "git", "no repository to look up the commits in", found=why)
        return
    for commit, names in users.items():
        try:
            git(Path.cwd(), "cat-file", "-e", f"{commit}^{{commit}}")
        except (OSError, subprocess.SubprocessError):
            what = "the commit of its code is not in this repository"
            yield Finding("missing", ", ".join(dict.fromkeys(names)), what, str(ledger.LEDGER), found=commit)


def check_taints(run: StageRun, taints: Iterable[Taint]) -> Iterable[Finding]:
    """Was it made from something that was declared tainted?"""
    for taint in taints:
        made_from = {*run.subjects.values(), *(digest for each in run.inputs for digest in each.holders.values())}
        if run.stage == "ingest" and (summary := run.dataset()):
            made_from.add(summary["upstream"]["sha256"])
        if (taint.dataset_sha256 or taint.sha256) in made_from:
            yield Finding("tainted", run.name, f"declared tainted: {taint.describe()}", taint.name)


def _below(run: StageRun, graph: RunGraph, ancestors: list[StageRun]) -> list[str]:
    affected = {each.id for each in graph.descendants(run)}
    return [each.name for each in ancestors if each.id in affected]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
