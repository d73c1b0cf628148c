"""The ledger: its chain, its heads (also those that git remembers), its root of trust, every signature with the place
that it was made for, the public keys, and the copies of statements that lie beside runs and taints."""

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from whale.audit.checks.findings import Finding, Report
from whale.audit.checks.trust_chain import Verdict, judge
from whale.common.errors import ConfigError, MismatchError, MissingInputError, RefusedError, WhaleError
from whale.common.json_files import canonical_json, remembered
from whale.lineage import ledger, signing
from whale.lineage.code_state import git, no_repository, why_git_failed
from whale.lineage.statement import PREDICATE_TYPE, place_of
from whale.lineage.taint import TAINT_TYPE, TAINTS_DIR
from whale.lineage.trust import TRUST, Trust, read_trust

RUNS, COPY = Path("lineage/runs"), "statement.dsse.json"
RUN_ID = re.compile(r"[0-9a-f]{16}")
ROOT_LINE = re.compile(r'^\+ *"root": "([0-9a-f]{64})"', re.MULTILINE)


def check_ledger(
    report: Report, expected_head: str | None = None, root: Path = Path(), expect_root: str | None = None
) -> list[ledger.Entry]:
    """Everything but what the statements speak of; empty where the chain is broken and nothing can be believed.

    `expect_root`: the fingerprint that the root must have, told by somebody whom the reader trusts.
    """
    if expect_root is not None and not signing.KEYID.fullmatch(expect_root):
        raise ConfigError("not a fingerprint", place="--expect-root", found=expect_root, expected="64 hex digits")
    try:
        entries = ledger.read(root / ledger.LEDGER)
        if not entries:
            raise MissingInputError("the ledger is empty", file=ledger.LEDGER, remedy="`dvc repro` writes it")
        ledger.check_head(entries, root / ledger.HEAD, expected_head)
        _check_remembered_heads(entries, root, report)
    except WhaleError as error:
        report.add(Finding.of("ledger", error))
        return []
    held = check_signatures(report, entries, root, expect_root)
    report.extend(_check_copies(entries, held, root))
    report.count("ledger lines", len(entries))
    return entries


def check_signatures(
    report: Report, entries: Sequence[ledger.Entry], root: Path = Path(), expect_root: str | None = None
) -> list[ledger.Entry]:
    """Root, keys and the signature of every line; says in `report` which root it was and where it is pinned.

    Returns the lines whose signature counts.
    """
    try:
        if (trust := read_trust(root)) is None:
            raise RefusedError(
                "no root of trust is pinned: anybody could have signed this ledger", file=TRUST, found="nothing",
                remedy="take it from git, or from whoever made the ledger",
            )  # fmt: skip
    except WhaleError as error:
        report.add(Finding("signature", "root of trust", error.what, str(error.file), remedy=error.remedy))
        return []
    pinned, earlier = _pinned(root, trust, report)
    verdict = judge(entries, trust, root)
    report.root = {"fingerprint": trust.root, "pinned": pinned, "signers": sorted(verdict.signers)}
    report.extend(_check_root(trust, verdict, earlier, expect_root))
    for entry, fault in verdict.faults:
        report.add(Finding("signature", f"ledger line {entry.line}", fault, str(ledger.LEDGER)))
    report.extend(_check_keys(verdict, root / signing.PUBLIC_KEYS))
    unheld = {entry.line for entry, _ in verdict.faults}
    return [entry for entry in entries if entry.line not in unheld]


def _check_root(trust: Trust, verdict: Verdict, earlier: set[str], expect_root: str | None) -> Iterator[Finding]:
    if expect_root is not None and expect_root != trust.root:
        yield Finding("signature", "root of trust", "not the root that was expected", str(TRUST), trust.root,
                      expect_root)  # fmt: skip
    if set(trust.signers) != verdict.signers:
        yield Finding("signature", "root of trust", "other signers than the ledger's statements name", str(TRUST),
                      ", ".join(sorted(trust.signers)), ", ".join(sorted(verdict.signers)))  # fmt: skip
    if expect_root == trust.root:
        return
    remedy = f"ask whoever made it; if {trust.root} is right, say so with --expect-root"
    for change in verdict.replaced:
        what = f"the root was replaced on {change.on}, because: {change.because}"
        yield Finding("signature", "root of trust", what, str(TRUST), trust.root, None, remedy)
    if (others := earlier - {trust.root}) and not verdict.replaced:
        yield Finding("signature", "root of trust", "git remembers another root", str(TRUST), trust.root,
                      ", ".join(sorted(others)), remedy)  # fmt: skip


def asked_of_git(report: Report, root: Path, what: str, *arguments: str) -> bytes | None:
    """What git says; None where it says nothing, and then `report` has why, unless there is no repository.

    Where none is, an auditor says once what nobody can look up. One that fails, or does not answer in time, could hide
    what it remembers: `what` was not checked, and that is incomplete.
    """
    try:
        return git(root.absolute(), *arguments)
    except (OSError, subprocess.SubprocessError) as error:
        is_late = isinstance(error, subprocess.TimeoutExpired)
        if is_late or (no_repository(root.absolute()) is None and not _has_no_commit(root)):
            report.add(Finding("incomplete", "git", f"not checked: {what}, for git fails", str(root.absolute()),
                               why_git_failed(error), None, "`git fsck`; then ask again"))  # fmt: skip
        return None


def _has_no_commit(root: Path) -> bool:
    """A repository that is just begun remembers nothing, and `git log` calls that an error."""
    try:
        git(root.absolute(), "rev-parse", "--quiet", "--verify", "HEAD")
    except subprocess.CalledProcessError as error:
        return error.returncode == 1
    except (OSError, subprocess.SubprocessError):
        return False
    return False


def _pinned(root: Path, trust: Trust, report: Report) -> tuple[str, set[str]]:
    """(where the root is pinned, in words; every root that git remembers on this branch)."""
    command = ("log", "--full-history", "--format=commit %h of %cs", "-p", "--", str(TRUST))
    said = asked_of_git(report, root, "which roots of trust git remembers", *command)
    if said is None:
        return f"{TRUST}, {_outside(root, report)}", set()
    text = said.decode("utf-8", "replace")
    if trust.root not in (earlier := set(ROOT_LINE.findall(text))):
        return f"{TRUST}, not yet committed", earlier
    return f"{TRUST} since {[line for line in text.splitlines() if line.startswith('commit ')][-1]}", earlier


def _outside(root: Path, report: Report) -> str:
    """Why git pins nothing, in few words."""
    failed = next((each.found for each in report.findings if each.where == "git"), None)
    if failed is not None:
        return f"and git fails: {failed}"
    return "outside git" if no_repository(root.absolute()) is not None else "not yet committed"


def _check_remembered_heads(entries: Iterable[ledger.Entry], root: Path, report: Report) -> None:
    """Every id that git ever held in HEAD must be in the ledger: lines cut off together with HEAD are noticed. Not
    those of DVC's experiments, which come into the ledger when one is applied."""
    command = ("log", "--exclude=refs/exps/*", "--all", "--format=", "-p", "--", str(ledger.HEAD))
    if (said := asked_of_git(report, root, "which heads of the ledger git remembers", *command)) is None:
        return
    ids = {entry.id for entry in entries}
    lines = said.decode("ascii", "replace").splitlines()
    committed = [line[1:] for line in lines if line.startswith("+") and len(line) == 65]
    if lost := [each for each in committed if each not in ids]:
        raise MismatchError("a head that git remembers is not in the ledger", file=ledger.LEDGER, found=lost[0])


def _check_keys(verdict: Verdict, keys: Path) -> Iterator[Finding]:
    """A public key that no statement brought in, or a file that is none, can only mislead."""
    yield from misnamed_keys(keys)
    for path in sorted(keys.glob("*.pub")):
        if signing.load_public(path) is not None and path.stem not in verdict.known:
            yield Finding("signature", "public keys", "a key that no trusted key has added", str(path))
    for keyid in sorted(verdict.known):
        if not signing.public_file(keyid, keys).is_file():
            path = signing.public_file(keyid)
            yield Finding("signature", "public keys", "a key of the ledger is gone", str(path), None, None,
                          "take it from git")  # fmt: skip


def misnamed_keys(keys: Path) -> Iterator[Finding]:
    """A file among public keys that is none."""
    for path in sorted(keys.glob("*")):
        if path.suffix != ".pub" or signing.load_public(path) is None:
            yield Finding("mismatch", "public keys", "not the key that its name says", str(path))


def _check_copies(entries: Sequence[ledger.Entry], held: Sequence[ledger.Entry], root: Path) -> Iterator[Finding]:
    """The copies beside runs, and of taints, which trainings read: each as in the ledger, none missing, none more.

    `held`: the lines whose signature counts; another line is told already, and may name the run of one that does.
    """
    for entry in held:
        path, envelope = _copy_of(entry), entry.envelope
        if path is not None and not (root / path).is_file():
            yield Finding("missing", "copies of statements", "the copy of a signed statement is gone", str(path), None,
                          None, "take it from git")  # fmt: skip
        elif path is not None and (root / path).read_bytes() != canonical_json(envelope).encode() + b"\n":
            yield Finding("mismatch", "copies of statements", "not the statement that the ledger has", str(path))
    named, places = set(map(_copy_of, entries)), [entry.prev for entry in entries]
    for file in sorted([*(root / RUNS).glob(f"*/{COPY}"), *(root / TAINTS_DIR).glob("*.json")]):
        path = file.relative_to(root)
        if path not in named and not (path.name == COPY and _is_of_a_killed_run(file, places)):
            what = "a signed statement that the ledger does not have: its line was cut off, or its run was killed"
            yield Finding("mismatch", "copies of statements", what, str(path), None, None,
                          "take the ledger from git; or run that stage again, and remove this file")  # fmt: skip


def _copy_of(entry: ledger.Entry) -> Path | None:
    """Where the copy of a line's statement lies; None for a kind that has none, and for an id that is no name."""
    if entry.statement.get("predicateType") == TAINT_TYPE:
        return TAINTS_DIR / f"{entry.id[:16]}.dsse.json"
    if entry.statement.get("predicateType") != PREDICATE_TYPE:
        return None
    try:
        run_id = str(entry.statement["predicate"]["runDetails"]["metadata"]["invocationId"])
    except (KeyError, TypeError):
        return None
    return RUNS / run_id / COPY if RUN_ID.fullmatch(run_id) else None


def _is_of_a_killed_run(file: Path, places: Sequence[tuple[str, ...]]) -> bool:
    """Killed between its copy and its line; the run that came next got its place in the ledger."""
    try:
        place = place_of(signing.payload_of(remembered(file)))
    except RefusedError:
        return False
    return isinstance(place, dict) and tuple(map(str, place.get("prev") or ())) in places
