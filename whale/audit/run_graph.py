"""The ledger as a graph: runs, what each read and made, and how one leads to another by sha256 alone.

Paths in statements are names, not keys: a folder that was moved or restored from a cache is found by its digest.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from whale.common.errors import IncompleteError, MismatchError, MissingInputError
from whale.common.files import MANIFEST_NAME
from whale.common.json_files import parse_json
from whale.common.stage_args import node_name
from whale.lineage import ledger
from whale.lineage.acceptance import Acceptance, acceptance_of, overlaid
from whale.lineage.inputs import name_in_statements
from whale.lineage.statement import PREDICATE_TYPE
from whale.lineage.taint import Taint, taint_of
from whale.seal import Hasher

SETTINGS = ("params", "lock", "settings")  # roles in a statement
SHA256, COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Input:
    """One argument of a run: its path then, its digest, and the sealed manifests or files that it stood on."""

    path: str
    sha256: str
    holders: dict[str, str]


@dataclass(frozen=True)
class StageRun:
    """One signed stage run, read off its statement.

    `params`: sections by name, floats as their repr; `settings`: params.yaml, constraints.txt, specs: path -> sha256;
    `code`: commit, tree, dirty, closure_files, closure_sha256; `subjects`: path -> sha256 of what it made;
    `byproducts`: file name in the run's folder -> (path, sha256).
    """

    entry: ledger.Entry
    stage: str
    item: str | None
    run_id: str
    started: str
    finished: str
    command: list[str]
    params: dict[str, Any]
    internal: dict[str, Any]
    inputs: list[Input]
    settings: dict[str, str]
    code: dict[str, Any]
    subjects: dict[str, str]
    byproducts: dict[str, tuple[str, str]]

    @classmethod
    def of(cls, entry: ledger.Entry) -> "StageRun":
        """MismatchError for a statement that is not of our form: a signature says who wrote it, not that it is sane."""
        try:
            found = cls._read(entry)
            is_sane = found._is_sane()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MismatchError("not the statement of a run of this version", found=str(error)[:120]) from None
        if not is_sane:
            raise MismatchError("not the statement of a run of this version", found=str(found.stage)[:120])
        return found

    def _is_sane(self) -> bool:
        """Types of what is read, and forms of what is handed to git and to the file system."""
        texts = [self.stage, self.stage if self.item is None else self.item, self.run_id, *self.command]
        texts += [*self.settings, *self.subjects, *(each.path for each in self.inputs)]
        digests = [*self.subjects.values(), *self.settings.values(), *(each.sha256 for each in self.inputs)]
        digests += [digest for each in self.inputs for digest in each.holders.values()]
        digests += [digest for _, digest in self.byproducts.values()]
        commits = [each for each in (self.code["commit"], self.code["tree"]) if each is not None]
        times = [datetime.fromisoformat(each) for each in (self.started, self.finished)]
        is_sane = all(isinstance(each, str) for each in texts) and all(each.tzinfo is not None for each in times)
        is_sane &= all(map(SHA256.fullmatch, digests)) and all(map(COMMIT.fullmatch, commits)) and bool(self.outputs)
        is_sane &= isinstance(self.params, dict) and isinstance(self.internal, dict) and "dirty" in self.code
        return is_sane and isinstance(self.internal["derivation_sha256"], str)

    @classmethod
    def _read(cls, entry: ledger.Entry) -> "StageRun":
        build, details = (entry.statement["predicate"][name] for name in ("buildDefinition", "runDetails"))
        external, metadata = build["externalParameters"], details["metadata"]
        rows = [(each["annotations"]["role"], each) for each in build["resolvedDependencies"]]
        (code,) = (each for role, each in rows if role == "code")
        notes = code["annotations"]
        data = [each for role, each in rows if role == "data"]
        byproducts = [(each["name"], each["digest"]["sha256"]) for each in details.get("byproducts", [])]
        return cls(
            entry, external["stage"], external["item"], metadata["invocationId"], metadata["startedOn"],
            metadata["finishedOn"], external["command"], external["params"], build["internalParameters"],
            inputs=[Input(each["name"], each["digest"]["sha256"], each["annotations"]["holders"]) for each in data],
            settings={each["name"]: each["digest"]["sha256"] for role, each in rows if role in SETTINGS},
            code={"commit": code["digest"].get("gitCommit")} | {key: notes[key] for key in notes if key != "role"},
            subjects={each["name"]: each["digest"]["sha256"] for each in entry.statement["subject"]},
            byproducts={Path(name).name: (name, sha256) for name, sha256 in byproducts},
        )  # fmt: skip

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def name(self) -> str:
        """As DVC names the stage."""
        return node_name(self.stage, self.item)

    @cached_property
    def read(self) -> dict[str, str]:
        """What the inputs stood on, or they themselves where that is nothing: path -> sha256."""
        found: dict[str, str] = {}
        for each in self.inputs:
            found |= each.holders or {each.path: each.sha256}
        return found

    @cached_property
    def outputs(self) -> list[str]:
        """The folders (by their manifest) and single files that the run published."""
        manifests = [name for name in self.subjects if Path(name).name == MANIFEST_NAME]
        folders = [Path(name).parent for name in manifests]
        alone = [name for name in self.subjects if not any(folder in Path(name).parents for folder in folders)]
        return sorted([*manifests, *alone])

    def dataset(self) -> dict[str, Any] | None:
        """The dataset that entered with this run (`ingest`), as its record keeps it."""
        return self.told("dataset.json")

    def byproduct(self, name: str) -> bytes | None:
        """A file of the run's record; None where it is gone or is not what was signed (`verify` says which)."""
        path, expected = self.byproducts.get(name, ("", ""))
        if not path or not Path(path).is_file():
            return None
        payload = Path(path).read_bytes()
        return payload if hashlib.sha256(payload).hexdigest() == expected else None

    def told(self, name: str) -> Any:
        """The JSON of `byproduct`; None where that is None, BadDataError where it is none."""
        payload = self.byproduct(name)
        return None if payload is None else parse_json(payload, self.byproducts[name][0])


@dataclass(frozen=True)
class Target:
    """What a person asked about: the run that made it, its name in the statement, its digest, where it lies now."""

    run: StageRun
    name: str
    sha256: str
    path: Path

    @property
    def folder(self) -> Path:
        return self.path.parent if self.path.name == MANIFEST_NAME else self.path


class RunGraph:
    """Every run of the ledger, in its order."""

    def __init__(self, entries: Iterable[ledger.Entry]):
        self.entries = list(entries)
        self.runs: list[StageRun] = []
        self._acceptances: dict[str, list[Acceptance]] = defaultdict(list)
        self.taints: list[Taint] = []
        self.malformed: list[tuple[ledger.Entry, MismatchError]] = []  # what claims to be one of these
        for each in self.entries:
            try:
                if each.statement.get("predicateType") == PREDICATE_TYPE:
                    self.runs.append(StageRun.of(each))
                elif (taint := taint_of(each.statement)) is not None:
                    self.taints.append(taint)
                elif (accepted := acceptance_of(each.statement)) is not None:
                    self._acceptances[accepted.statement].append(accepted)
            except MismatchError as error:
                self.malformed.append((each, error))
        self._makers: dict[str, list[StageRun]] = defaultdict(list)
        self._users: dict[str, list[StageRun]] = defaultdict(list)
        self._by_name: dict[str, list[StageRun]] = defaultdict(list)
        for run in self.runs:
            for name, sha256 in run.subjects.items():
                self._makers[sha256].append(run)
                self._by_name[name].append(run)
            for sha256 in {digest for each in run.inputs for digest in each.holders.values()}:
                self._users[sha256].append(run)

    @classmethod
    def load(cls, path: Path = ledger.LEDGER) -> "RunGraph":
        """The ledger's chain is checked, its signatures are not (`verify` does that)."""
        return cls(ledger.read(path))

    def makers(self, sha256: str) -> list[StageRun]:
        """Runs that made these bytes, oldest first."""
        return self._makers.get(sha256, [])

    def acceptances(self, run: StageRun) -> list[Acceptance]:
        """Edits of the run's code that were accepted since, oldest first."""
        return self._acceptances.get(run.id, [])

    def codes(self, run: StageRun) -> list[dict[str, dict[str, Any]]]:
        """Rows of the code files that ever stood for the run: those that ran, then after each acceptance."""
        found = [run.told("closure.json") or {}]
        for accepted in self.acceptances(run):
            found.append(overlaid(found[-1], accepted))
        return found

    def code_now(self, run: StageRun) -> dict[str, dict[str, Any]]:
        """Rows of the code files that stand for the run today."""
        return self.codes(run)[-1]

    def standing(self, name: str, sha256: Hasher) -> list[StageRun]:
        """Runs of stage `name` whose outputs lie there, newest first: several may have made the same bytes."""
        return [
            run
            for run in reversed(self.runs)
            if run.name == name
            and all(Path(out).is_file() and sha256(Path(out)) == run.subjects[out] for out in run.outputs)
        ]

    def parents(self, run: StageRun) -> list[StageRun]:
        """The runs that made what `run` read, each once, in the order of the ledger."""
        found = {}
        for each in run.inputs:
            for sha256 in each.holders.values():
                before = [maker for maker in self.makers(sha256) if maker.entry.line < run.entry.line]
                if before:
                    found[before[-1].id] = before[-1]
        return sorted(found.values(), key=lambda parent: parent.entry.line)

    def ancestors(self, run: StageRun) -> list[StageRun]:
        """`run` and all that it came from, oldest first."""
        return _reached(run, self.parents)

    def descendants(self, run: StageRun) -> list[StageRun]:
        """All runs that read something that `run` made, directly or not, oldest first; over the whole ledger."""

        def users(each: StageRun) -> Iterator[StageRun]:
            return chain.from_iterable(self._users.get(sha256, []) for sha256 in each.subjects.values())

        return [each for each in _reached(run, users) if each.id != run.id]

    def find(self, text: str) -> Target:
        """A published folder, a file in one, a metrics file, a sha256 (8 or more digits), or a stage's name.

        Raises MissingInputError (nothing there), MismatchError (the ledger knows this path with other bytes),
        IncompleteError (nobody signed for it).
        """
        if (path := Path(text)).exists():
            return self._find_path(path / MANIFEST_NAME if (path / MANIFEST_NAME).is_file() else path)
        named = [run for run in self.runs if run.name == text]
        if named:
            name = named[-1].outputs[0]
            return Target(named[-1], name, named[-1].subjects[name], Path(name))
        if len(text) >= 8 and all(letter in "0123456789abcdef" for letter in text):
            for sha256, runs in self._makers.items():
                if sha256.startswith(text):
                    name = next(name for name, digest in runs[-1].subjects.items() if digest == sha256)
                    return Target(runs[-1], name, sha256, Path(name))
        for name in (text.rstrip("/"), f"{text.rstrip('/')}/{MANIFEST_NAME}"):
            if name in self._by_name:
                run = self._by_name[name][-1]
                return Target(run, name, run.subjects[name], Path(name))
        remedy = "a folder or file below artifacts/, a stage (`dvc stage list`), or the beginning of a sha256"
        raise MissingInputError("no such folder, file, sha256 or stage in the ledger", found=text, remedy=remedy)

    def _find_path(self, path: Path) -> Target:
        from whale.common.files import sha256_of_file

        if path.is_dir():
            raise IncompleteError(f"a folder without {MANIFEST_NAME} was not published by a stage", file=path)
        sha256, here = sha256_of_file(path), name_in_statements(path)
        if runs := self.makers(sha256):
            names = [name for name, digest in runs[-1].subjects.items() if digest == sha256]
            return Target(runs[-1], here if here in names else names[0], sha256, path)
        if known := self._by_name.get(here):
            expected = known[-1].subjects[here]
            raise MismatchError("these bytes are not those of the ledger", file=path, found=sha256, expected=expected)
        raise IncompleteError("no statement of the ledger names these bytes", file=path, found=f"sha256 {sha256}",
                              remedy="make it with `dvc repro -f -s STAGE`")  # fmt: skip


def _reached(run: StageRun, following: Callable[[StageRun], Iterable[StageRun]]) -> list[StageRun]:
    """`run` and all that one comes to from it, oldest first."""
    seen, waiting = {run.id: run}, [run]
    while waiting:
        for each in following(waiting.pop()):
            if each.id not in seen:
                seen[each.id] = each
                waiting.append(each)
    return sorted(seen.values(), key=lambda each: each.entry.line)
