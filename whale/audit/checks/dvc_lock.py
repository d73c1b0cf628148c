"""dvc.lock against the ledger: every command, parameter and md5 in it belongs to a signed run and to the bytes on disk.

DVC accepts whatever `dvc commit -f` writes there. Here each entry must be what its newest run says: the command, the
parameters as the files have them, the md5 of its code (closure.json), of its inputs and of its outputs. The text must
be what DVC writes, so that no byte of it is without a meaning.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from whale.audit.checks.findings import Finding
from whale.audit.checks.lock_text import LOCK, canonical, parse
from whale.audit.checks.params_check import agrees
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.config import load_yaml
from whale.common.errors import ConfigError, WhaleError
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.lineage.inputs import prove_input
from whale.lineage.statement import floats_as_text
from whale.seal import Hasher, list_files

KEYS = {"cmd", "deps", "params", "outs"}


def check_lock(graph: RunGraph, needed: Iterable[StageRun], sha256: Hasher, md5: Hasher) -> Iterator[Finding]:
    """Every entry of dvc.lock; `needed`: runs of DVC that must have one."""
    made_by_dvc = {run.name for run in needed if run.internal.get("dvc_stage")}
    if not LOCK.is_file():
        if made_by_dvc:
            yield Finding("missing", "dvc.lock", "DVC's record of the pipeline is gone", str(LOCK))
        return
    try:
        text = LOCK.read_text(encoding="utf-8")
        document = parse(text)
        stages: dict[str, dict[str, Any]] = document["stages"]
        is_written_by_dvc = set(document) == {"schema", "stages"} and document["schema"] == "2.0"
        is_written_by_dvc &= canonical(document) == text
    except (KeyError, TypeError, ValueError):
        is_written_by_dvc, stages = False, {}
    if not is_written_by_dvc:
        yield Finding("mismatch", "dvc.lock", "not in the form that DVC writes", str(LOCK))
        return
    newest = {run.name: run for run in graph.runs}
    settings, disk = _Settings(), _Disk(sha256, md5)
    for name, entry in stages.items():
        if name not in newest or not isinstance(entry, dict) or not set(entry) <= KEYS:
            yield Finding("incomplete", "dvc.lock", f"no run of the ledger made the entry '{name}'", str(LOCK))
            continue
        yield from _check_against_runs(
            name, entry, graph, graph.standing(name, sha256) or [newest[name]], settings, disk
        )
    for name in sorted(made_by_dvc - set(stages)):
        yield Finding("missing", "dvc.lock", f"the entry of {name} is gone", str(LOCK))


def _check_against_runs(
    name: str, entry: Mapping[str, Any], graph: RunGraph, runs: list[StageRun], settings: "_Settings", disk: "_Disk"
) -> list[Finding]:
    """Nothing, if the entry is that of any of `runs` with any code that stood for it: DVC may have restored an older
    entry from its cache, with outputs that a newer run, or code that was accepted since, has made as well."""
    first: list[Finding] | None = None
    for run in runs:
        for closure in reversed(graph.codes(run)):
            found = list(_check_entry(name, entry, run, closure, settings, disk))
            if not found:
                return []
            first = first or found
    return first or []


def _check_entry(
    name: str,
    entry: Mapping[str, Any],
    run: StageRun,
    closure: Mapping[str, Mapping[str, Any]],
    settings: "_Settings",
    disk: "_Disk",
) -> Iterator[Finding]:
    """`closure`: the code that stood for the run."""

    def wrong(what: str, found: object = None, expected: object = None) -> Finding:
        texts = [None if each is None else str(each)[:160] for each in (found, expected)]
        return Finding("mismatch", f"dvc.lock, {name}", what, str(LOCK), *texts)

    if entry.get("cmd") not in (" ".join(run.command), " ".join(run.command[:4])):  # dvc.yaml says no path there
        yield wrong("another command than the one that ran", entry.get("cmd"), " ".join(run.command))
    for file, given in (entry.get("params") or {}).items():
        for key, value in given.items():
            if not settings.had(run, file, key, value):
                yield wrong(f"the value of '{key}' of {file} is not what the run had", value)
    folders = {each.path: each.sha256 for each in run.inputs}
    for row in entry.get("deps") or []:
        path = str(row.get("path"))
        if (expected := code_row(path, closure)) is not None:
            if row != expected:
                yield wrong(f"another version of {path} than the one that ran", row, expected)
        elif path not in folders:
            yield wrong("an input that the run did not have", path)
        elif disk.is_as_then(path, folders[path]) and row != (expected := disk.row(Path(path))):
            yield wrong(f"another digest of {path} than that of the bytes there", row, expected)
    yield from _check_outs(entry, run, disk, wrong)


def _check_outs(entry: Mapping[str, Any], run: StageRun, disk: "_Disk", wrong) -> Iterator[Finding]:
    made = {str(Path(out).parent) if Path(out).name == MANIFEST_NAME else out: out for out in run.outputs}
    rows = entry.get("outs") or []
    if {row.get("path") for row in rows} != set(made):
        yield wrong("other outputs than the run made", [row.get("path") for row in rows], sorted(made))
        return
    for row in rows:
        signed = made[row["path"]]
        is_as_made = disk.is_as_then(row["path"], run.subjects[signed])
        if is_as_made and row != (expected := disk.row(Path(row["path"]))):
            yield wrong(f"another digest of {row['path']} than that of the bytes there", row, expected)


class _Settings:
    """The parameter files as they lie there, each read once."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str | None, Any]] = {}

    def had(self, run: StageRun, file: str, key: str, value: Any) -> bool:
        """Exactly what the file says, if it still is the file that the run had; else what the run resolved it to. A
        file that the run did not have is none of its."""
        if file not in run.settings:
            return False
        digest, values = self._read(file)
        if digest is not None and digest == run.settings.get(file):
            for part in key.split("."):
                values = values.get(part) if isinstance(values, Mapping) else None
            return values == value and type(values) is type(value)
        recorded: Any = run.params.get(key.split(".")[0])
        return file != "params.yaml" or agrees(floats_as_text(value), recorded)

    def _read(self, file: str) -> tuple[str | None, Any]:
        if file not in self._files:
            try:
                self._files[file] = (sha256_of_file(file), load_yaml(file))
            except (OSError, ConfigError):
                self._files[file] = (None, None)
        return self._files[file]


class _Disk:
    """What lies at a path: looked at once, however many stages read it."""

    def __init__(self, sha256: Hasher, md5: Hasher) -> None:
        self._digest = cache(partial(_proven_digest, sha256=sha256))
        self.row = cache(partial(_data_row, md5=md5))

    def is_as_then(self, path: str, expected: str) -> bool:
        return self._digest(Path(path)) == expected


def _proven_digest(path: Path, sha256: Hasher) -> str | None:
    with suppress(WhaleError):
        return prove_input(path, sha256).digest if path.exists() else None
    return None


def code_row(path: str, closure: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The entry of a code file, or of a folder whose every file the stage reached; None for what is no code of it."""
    if path in closure:
        return {"path": path, "hash": "md5", "md5": closure[path]["md5"], "size": closure[path]["bytes"]}
    below = {name: row for name, row in closure.items() if name.startswith(f"{path}/")}
    if not below:
        return None
    empty = {"md5": hashlib.md5(b"", usedforsecurity=False).hexdigest(), "bytes": 0}
    modules = [Path(name) for name in below if name.endswith(".py")]
    packages = {f"{parent.as_posix()}/__init__.py" for module in modules for parent in module.parents}
    below |= {name: empty for name in packages if name.startswith(f"{path}/") and name not in below}
    rows = [{"md5": str(row["md5"]), "relpath": name[len(path) + 1 :]} for name, row in below.items()]
    return _folder_row(path, rows, sum(row["bytes"] for row in below.values()))


def _data_row(path: Path, md5: Hasher) -> dict[str, Any]:
    """`path`'s entry as DVC writes it: of a folder the md5 of the list of its files' md5."""
    if path.is_file():
        return {"path": path.as_posix(), "hash": "md5", "md5": md5(path), "size": path.stat().st_size}
    files = list_files(path) + ([path / MANIFEST_NAME] if (path / MANIFEST_NAME).is_file() else [])
    rows = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return _folder_row(path.as_posix(), rows, sum(file.stat().st_size for file in files))


def _folder_row(path: str, rows: list[dict[str, str]], size: int) -> dict[str, Any]:
    ordered = sorted(rows, key=lambda row: row["relpath"].split("/"))
    digest = hashlib.md5(json.dumps(ordered, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    return {"path": path, "hash": "md5", "md5": f"{digest}.dir", "size": size, "nfiles": len(rows)}
