"""One statement per stage run that ended well: what was used, what was made, by which code (lineage.md 3 and 4).

Shaped as an in-toto Statement v1 with a SLSA provenance v1 predicate, not signed yet. Clock, host and commit stand here
and nowhere else: outputs are functions of inputs, code and params.
"""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.config import canonical_json
from whale.lineage.atomic_file import write_atomically

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True)
class Derivation:
    """Everything that decides a stage's bytes: equal derivations give equal outputs."""

    stage: str
    item: str | None
    config: dict[str, Any]  # sections with every default resolved
    inputs: dict[str, str]  # name -> sha256
    code_files: int
    code_sha256: str  # of the stage's import closure

    def digest(self) -> str:
        """sha256 of the canonical JSON of all fields."""
        return hashlib.sha256(canonical_json(vars(self)).encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """What happened to be so: never part of an output."""

    run_id: str
    command: list[str]
    started: str
    finished: str
    input_paths: dict[str, str]
    environment_sha256: str
    commit: str | None
    is_dirty: bool | None


def build_statement(derivation: Derivation, run: Run, subjects: dict[str, str]) -> dict[str, Any]:
    """`subjects`: path of each output file -> sha256."""
    name = derivation.stage if derivation.item is None else f"{derivation.stage}@{derivation.item}"
    build = {
        "buildType": f"urn:whale:stage:{derivation.stage}:1",
        "externalParameters": {
            "stage": derivation.stage,
            "item": derivation.item,
            "command": run.command,
            "params": _floats_as_text(derivation.config),
        },
        "internalParameters": {"derivation_sha256": derivation.digest()},
        "resolvedDependencies": _dependencies(derivation, run),
    }
    details = {
        "builder": {"id": "urn:whale:stage-runner:1"},
        "metadata": {"invocationId": run.run_id, "startedOn": run.started, "finishedOn": run.finished},
        "byproducts": [
            {
                "name": f"lineage/runs/{run.run_id}/environment.json",
                "digest": {"sha256": run.environment_sha256},
                "annotations": {"role": "environment", "stage": name},
            }
        ],
    }
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": path, "digest": {"sha256": digest}} for path, digest in sorted(subjects.items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"buildDefinition": build, "runDetails": details},
    }


def _dependencies(derivation: Derivation, run: Run) -> list[dict[str, Any]]:
    code: dict[str, Any] = {
        "name": "code",
        "digest": {"gitCommit": run.commit} if run.commit else {"sha256": derivation.code_sha256},
        "annotations": {
            "dirty": run.is_dirty,
            "closure_files": derivation.code_files,
            "closure_sha256": derivation.code_sha256,
        },
    }
    params = hashlib.sha256(canonical_json(derivation.config).encode()).hexdigest()
    inputs = [
        {"name": run.input_paths[name], "digest": {"sha256": digest}, "annotations": {"role": "data", "argument": name}}
        for name, digest in sorted(derivation.inputs.items())
    ]
    return [code, {"name": "params", "digest": {"sha256": params}, "annotations": {"role": "params"}}, *inputs]


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """(commit, dirty) of the repository at `root`; (None, None) where there is no git or no commit yet."""
    try:
        commit = _git(root, "rev-parse", "--verify", "-q", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock", ":!lineage"))
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, dirty


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _floats_as_text(value: Any) -> Any:
    """Floats as their `repr`: the statement passes through parsers that do not keep every float (lineage.md 3)."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {key: _floats_as_text(each) for key, each in value.items()}
    return [_floats_as_text(each) for each in value] if isinstance(value, list) else value


def write_json(path: Path, value: object) -> str:
    """Pretty, sorted, ASCII JSON; returns the sha256 of its bytes."""
    payload = pretty_json(value)
    write_atomically(path, payload)
    return hashlib.sha256(payload).hexdigest()


def pretty_json(value: object) -> bytes:
    """The bytes of `value`: sorted keys, two spaces, ASCII, no NaN, a newline at the end."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode()
