"""`lineage/runs/<id>/`: what a stage run that ended well leaves beside its line of the ledger. Only here is a clock.

| file | holds |
|---|---|
| `statement.dsse.json` | the signed statement, as in the ledger |
| `environment.json` | machine, switches, packages, and the sha256 of each installed package's RECORD |
| `closure.json` | the code files of the stage: sha256, and md5 as DVC writes it |
| `code.patch` | from the commit to the code that ran, if that was not the commit |
| `opened.json` | what was opened and imported beyond the declared, code that was edited meanwhile |
| `attempts.json` | earlier tries |
| others | what the stage asked to keep, e.g. its episode table |
| `timings.json` | seconds and memory; not in the statement, not in git |

Their sha256 stand in the statement. The ledger line is written last: without it the run did not happen.
"""

import argparse
import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whale.common.files import MANIFEST_NAME, sha256_of_file, sync_file, write_atomically
from whale.common.json_files import canonical_json, pretty_json, write_json
from whale.guard import experiment, machine, opened_files
from whale.guard.guarded_run import GuardedRun
from whale.lineage.closure import closure_digest
from whale.lineage.code_state import CodeState
from whale.lineage.signing import Envelope
from whale.lineage.statement import RunFacts, build_statement
from whale.lineage.summary import LINEAGE_NAME
from whale.lineage.trust import sign_into_ledger
from whale.seal import read_manifest

RUNS_DIR = Path("lineage/runs")
MAX_SUBJECTS = 64  # more files than that are named by the folder's manifest alone
ALWAYS_RECORDED = ("params.yaml", "constraints.txt")
READ_AT_ONCE = ("params.yaml", "local.yaml", "constraints.txt", "pyproject.toml", "dvc.yaml")


def write_run_record(run: GuardedRun, args: argparse.Namespace, subjects: dict[str, str]) -> Path:
    """Write the record and sign it into the ledger; `subjects`: path -> sha256 of the outputs. Returns the folder."""
    finished = datetime.now(UTC)
    moment = [run.started.isoformat(), finished.isoformat(), os.getpid()]
    run_id = hashlib.sha256(canonical_json([run.identity, subjects, moment]).encode()).hexdigest()[:16]
    directory = RUNS_DIR / run_id
    directory.mkdir(parents=True, exist_ok=True)
    code = run.beforehand.code_state()
    opened = opened_files.report(Path.cwd(), run.code_root, map(Path, [*run.code, *run.builder]), *_paths(run, args))
    opened["edited_meanwhile"] = _edited_meanwhile(run, opened["settings"])
    described = machine.describe()
    named, sizes = _all_subjects(subjects)
    facts = RunFacts(
        run_id=run_id,
        command=shlex.split(run.command),
        started=run.started.isoformat(timespec="milliseconds"),
        finished=finished.isoformat(timespec="milliseconds"),
        input_paths={name: str(getattr(args, name)) for name in run.inputs},
        input_holders={name: proven.holders for name, proven in run.proven.items()},
        settings=_settings(run, opened["settings"]),
        code=code,
        closure_files=len(run.code),
        closure_sha256=closure_digest(run.code),
        byproducts=_write_byproducts(run, directory, code, opened, described),
        internal=_internal(run, opened, described),
        versions=_versions(run),
    )
    _sign(build_statement(run.derivation, facts, named, sizes), directory)
    experiment.keep_with_experiment()
    run.attempts.clear()
    return directory


def write_timings(run: GuardedRun, directory: Path) -> None:
    """What the run took, beside its record: the only file there that says nothing to an auditor."""
    finished = datetime.now(UTC).isoformat(timespec="milliseconds")
    timings = {"stage": run.name, "profile": run.profile, "finished": finished, **run.clock.report()}
    write_json(directory / "timings.json", timings)


def _sign(statement: Mapping[str, Any], directory: Path) -> None:
    def keep(envelope: Envelope) -> None:
        write_atomically(directory / "statement.dsse.json", canonical_json(envelope).encode() + b"\n")

    sign_into_ledger(statement, keep)


def _write_byproducts(
    run: GuardedRun, directory: Path, code: CodeState, opened: Mapping[str, Any], described: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    files: dict[str, tuple[str, bytes]] = {
        "environment.json": ("environment", pretty_json({**described, "installed": machine.installed_packages()})),
        "closure.json": ("closure", pretty_json(run.code)),
        "opened.json": ("opened_files", pretty_json(opened)),
    }
    if earlier := run.attempts.earlier():
        files["attempts.json"] = ("attempts", pretty_json(earlier))
    if code.patch:
        files["code.patch"] = ("patch", code.patch)
    for dataset in run.datasets:
        files["dataset.json"] = ("dataset", pretty_json(dataset))
    files |= {name: ("kept", payload) for name, payload in run.kept.items()}
    for name, (_, payload) in files.items():
        write_atomically(directory / name, payload, lasts=False)
    for path in (*(directory / name for name in files), directory):  # together half the time of one by one
        sync_file(path)
    return {
        (directory / name).as_posix(): (role, hashlib.sha256(payload).hexdigest())
        for name, (role, payload) in files.items()
    }


def _internal(run: GuardedRun, opened: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    """What SLSA calls internal parameters: where it ran, and what it must answer for."""
    shown = ("machine", "processor", "cpus_allowed", "torch_threads", "deterministic_algorithms", "cuda", "gpus")
    undeclared = len(opened["undeclared_files"]) + len(opened["undeclared_modules"])
    return {
        "profile": run.profile,
        "dvc_stage": os.environ.get("DVC_STAGE"),
        "env": described["variables"],
        **{name: described[name] for name in shown if name in described},
        "undeclared": undeclared,
        "edited_meanwhile": len(opened["edited_meanwhile"]),
        "listened": opened["listened"] and opened["workers"] >= run.notes.get("workers", 0),
        "earlier_attempts": len(run.attempts.earlier()),
        "spool": _spool(run),
        **run.notes,
    }


def _spool(run: GuardedRun) -> dict[str, Any]:
    """What the run told MLflow, as bytes; after this comes one line alone, that it ended."""
    path = run.tracking.path
    payload = path.read_bytes() if path.is_file() else b""
    told = {"spool": path.stem, "bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    return told | {"compute_s": f"{run.clock.compute_s:.1f}"}


def _settings(run: GuardedRun, opened: list[str]) -> dict[str, str]:
    """Files beside the declared inputs whose bytes the run read or could have: path -> sha256.

    That of the run's beginning; of a file that came later, its own.
    """
    specs = [f"data_specs/{dataset['name']}.yaml" for dataset in run.datasets]
    names, known = {*ALWAYS_RECORDED, *specs, *opened}, run.beforehand.settings()
    later = {name: sha256_of_file(name) for name in names - known.keys() if Path(name).is_file()}
    return dict(sorted(({name: known[name] for name in names & known.keys()} | later).items()))


def _edited_meanwhile(run: GuardedRun, opened: list[str]) -> list[str]:
    """Code, and settings that are read while a stage runs; those of READ_AT_ONCE may be edited for the next run."""
    settings = [name for name in opened if name not in READ_AT_ONCE]
    return run.beforehand.changed_code() + run.beforehand.changed_settings(settings)


def _paths(run: GuardedRun, args: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    inputs = [Path(getattr(args, name)) for name in run.inputs]
    inputs += [Path(os.path.realpath(path)) for path in inputs]  # raw/NAME may be a link
    for holder in (Path(path) for proven in run.proven.values() for path in proven.holders):
        inputs += [holder, holder.parent / LINEAGE_NAME]  # the guard's own reading
    inputs += [*run.described, *_pinned(run.derivation.config)]
    return inputs, [Path(getattr(args, name)) for name in ("out", "metrics") if getattr(args, name, None)]


def _pinned(config: Any) -> Iterator[Path]:
    """Files that the parameters name together with their sha256, and that are those bytes: declared by that."""
    if isinstance(config, Mapping):
        path = Path(str(config.get("path")))
        if "sha256" in config and path.is_file() and sha256_of_file(path) == config["sha256"]:
            yield path
        for each in config.values():
            yield from _pinned(each)


def _all_subjects(subjects: dict[str, str]) -> tuple[dict[str, str], dict[str, int]]:
    """Every output file, if they are few, with its size."""
    found, sizes = dict(subjects), {}
    for path in (Path(name) for name in subjects if Path(name).name == MANIFEST_NAME):
        rows = read_manifest(path.parent)
        if len(rows) <= MAX_SUBJECTS:
            found.update({str(path.parent / name): row["sha256"] for name, row in rows.items()})
            sizes.update({str(path.parent / name): row["bytes"] for name, row in rows.items()})
    return found, sizes


def _versions(run: GuardedRun) -> dict[str, str]:
    """Of who ran the stage: the packages, and the guard's own code."""
    installed = machine.installed_packages()
    names = {"whale": "whale-world-model", "dvc": "dvc"}
    found = {name: installed[package]["version"] for name, package in names.items() if package in installed}
    return found | {"guard_sha256": closure_digest(run.builder)}
