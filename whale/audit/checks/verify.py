"""Has anything changed: the ledger, every signature, and every byte that the artefact came from (Q9).

From the sources down to the artefact, each run's outputs, inputs, record, parameters and code are held against its
statement. Nothing here needs a server, a clock or a network.
"""

import hashlib
import subprocess
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from whale.audit.checks.findings import Finding, Report
from whale.audit.checks.params_check import check_settings
from whale.audit.run_graph import RunGraph, StageRun, Target
from whale.common.errors import IncompleteError, MismatchError, MissingInputError, WhaleError
from whale.lineage import ledger, signing
from whale.lineage.acceptance import fault_of
from whale.lineage.code_state import git
from whale.lineage.file_digests import FileDigests
from whale.lineage.inputs import prove_input
from whale.lineage.syntax import digest_of_source
from whale.lineage.taint import Taint, taint_of
from whale.seal import MANIFEST_NAME, Hasher, verify_sealed

MAX_LEAD = timedelta(seconds=300)  # a run may not begin earlier than that before an input was finished


def check_ledger(report: Report, expected_head: str | None = None, root: Path = Path()) -> list[ledger.Entry]:
    """Chain, heads (also those that git remembers), signatures, and the copies beside the runs."""
    try:
        entries = ledger.read(root / ledger.LEDGER)
        ledger.check_head(entries, root / ledger.HEAD, expected_head)
        _check_remembered_heads(entries, root)
    except WhaleError as error:
        report.add(Finding.of("ledger", error))
        return []
    for entry in entries:
        try:
            signing.verify(entry.envelope, root / signing.PUBLIC_KEYS)
        except WhaleError as error:
            where = f"ledger line {entry.line}"
            report.add(Finding("signature", where, error.what, str(ledger.LEDGER), str(error.found)))
    check_keys(report, root / signing.PUBLIC_KEYS)
    report.count("ledger lines", len(entries))
    return entries


def verify(target: Target, graph: RunGraph, report: Report, sha256: Hasher, strict: bool = False) -> Report:
    """Hold `target` and all that it came from against the ledger; `sha256` decides how much is read again."""
    ancestors = graph.ancestors(target.run)
    checked: dict[tuple[str, str], Finding | None] = {}
    for run in ancestors:
        before = len(report.findings)
        report.extend(_check_outputs(run, target, graph, sha256, checked, report))
        report.extend(unmade_inputs(run, graph))
        report.extend(_check_sources(run, graph, sha256, checked))
        report.extend(_check_record(run, sha256))
        report.extend(check_times(run, graph))
        report.extend(_check_code(run, report, strict))
        report.extend(check_taints(run, filter(None, (taint_of(entry.statement) for entry in graph.entries))))
        if len(report.findings) > before and not report.broken_below:
            report.broken_below = _below(run, graph, ancestors)
        report.count("runs")
        report.extend(_check_acceptances(run, graph, report))
    for entry, error in graph.malformed:
        report.add(Finding.of(f"ledger line {entry.line}", error))
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


def _check_remembered_heads(entries: Iterable[ledger.Entry], root: Path) -> None:
    """Every id that git ever held in HEAD must be in the ledger: lines cut off together with HEAD are noticed."""
    try:
        said = git(root.absolute(), "log", "--all", "--format=", "-p", "--", str(ledger.HEAD))
    except (OSError, subprocess.SubprocessError):
        return
    ids = {entry.id for entry in entries}
    lines = said.decode("ascii", "replace").splitlines()
    committed = [line[1:] for line in lines if line.startswith("+") and len(line) == 65]
    if lost := [each for each in committed if each not in ids]:
        raise MismatchError("a head that git remembers is not in the ledger", file=ledger.LEDGER, found=lost[0])


def check_keys(report: Report, keys: Path) -> None:
    """A file among the public keys that is none can only mislead."""
    for path in sorted(keys.glob("*")):
        if path.suffix != ".pub" or not signing.is_public_key(path):
            report.add(Finding("mismatch", "public keys", "not the key that its name says", str(path)))


def _check_outputs(
    run: StageRun,
    target: Target,
    graph: RunGraph,
    sha256: Hasher,
    checked: dict[tuple[str, str], Finding | None],
    report: Report,
) -> Iterable[Finding]:
    for name in run.outputs:
        path = target.path if run is target.run and name == target.name else Path(name)
        key = (str(path), run.subjects[name])
        if key not in checked:
            checked[key] = _check_output(run, path, run.subjects[name], sha256, graph)
            report.count("outputs")
        if (finding := checked[key]) is not None:
            yield finding


def _check_output(run: StageRun, path: Path, expected: str, sha256: Hasher, graph: RunGraph) -> Finding | None:
    try:
        if not path.is_file():
            raise MissingInputError("what this run made is gone", file=path)
        found = sha256(path)
        later = [maker for maker in graph.makers(found) if maker.name == run.name and maker.entry.line > run.entry.line]
        if found != expected and not later:
            raise MismatchError("not what this run made", file=path, found=found, expected=expected)
        if path.name == MANIFEST_NAME:
            verify_sealed(path.parent, sha256)
    except WhaleError as error:
        return Finding.of(run.name, error)
    if found == expected:
        return None
    what = f"run {later[-1].run_id} made it anew on {later[-1].finished}"
    remedy = "`dvc repro` makes anew what follows from it; or check out the dvc.lock of then, and `dvc checkout`"
    return Finding("remade", run.name, what, str(path), found, expected, remedy)


def unmade_inputs(run: StageRun, graph: RunGraph) -> Iterable[Finding]:
    """Sealed inputs were made by an earlier run of the ledger."""
    for each in run.inputs:
        for name, digest in each.holders.items():
            makers = [maker for maker in graph.makers(digest) if maker.entry.line < run.entry.line]
            if not makers and Path(name).name == MANIFEST_NAME:
                error = IncompleteError("an input that no run of the ledger made", file=name, found=digest)
                yield Finding.of(run.name, error)


def _check_sources(
    run: StageRun, graph: RunGraph, sha256: Hasher, checked: dict[tuple[str, str], Finding | None]
) -> Iterable[Finding]:
    """Files from outside must be as they were."""
    for each in run.inputs:
        if not any(graph.makers(digest) for digest in each.holders.values()):
            key = (each.path, each.sha256)
            if key not in checked:
                checked[key] = _check_source(run, Path(each.path), each.sha256, sha256)
            if (finding := checked[key]) is not None:
                yield finding


def _check_source(run: StageRun, path: Path, expected: str, sha256: Hasher) -> Finding | None:
    try:
        if not path.exists():
            raise MissingInputError("a source is gone", file=path)
        if (found := prove_input(path, sha256).digest) != expected:
            raise MismatchError("a source is not what it was", file=path, found=found, expected=expected)
    except WhaleError as error:
        return Finding.of(run.name, error)
    return None


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


def _check_code(run: StageRun, report: Report, strict: bool) -> Iterable[Finding]:
    """The commit must still be there; a dirty tree is shown, and accepted unless `strict`."""
    commit = run.code["commit"]
    if commit is not None:
        try:
            git(Path.cwd(), "cat-file", "-e", f"{commit}^{{commit}}")
        except (OSError, subprocess.SubprocessError):
            what = "the commit of its code is not in this repository"
            yield Finding("missing", run.name, what, str(ledger.LEDGER), found=commit)
    yield from check_commit(run, report, strict)


def check_commit(run: StageRun, report: Report, strict: bool) -> Iterable[Finding]:
    """Was its code that of a commit?"""
    commit = run.code["commit"]
    if run.code["dirty"] or commit is None:
        what = "ran on a tree with changes" if commit else "ran outside git, its code is known by closure.json only"
        if strict:
            name = "code.patch" if commit else "closure.json"
            yield Finding("incomplete", run.name, what, run.byproducts.get(name, (name, ""))[0])
        report.count(what)


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
