"""One statement per stage run that ended well: what was used, what was made, by which code.

An in-toto Statement v1 with a SLSA provenance v1 predicate; what SLSA has no field for stands in `annotations`. Clock,
host and commit stand here and nowhere else: outputs are functions of inputs, code and params.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whale.common.json_files import canonical_json
from whale.lineage.code_state import CodeState

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
PLACE = "place"


@dataclass(frozen=True)
class Derivation:
    """Everything that decides a stage's bytes: equal derivations give equal outputs."""

    stage: str
    item: str | None
    config: dict[str, Any]  # sections with every default resolved
    inputs: dict[str, str]  # name -> sha256
    code_sha256: str  # of the stage's import closure, as syntax: a comment decides nothing

    def digest(self) -> str:
        """sha256 of the canonical JSON of all fields."""
        return hashlib.sha256(canonical_json(vars(self)).encode()).hexdigest()


@dataclass(frozen=True)
class RunFacts:
    """What happened to be so: never part of an output."""

    run_id: str
    command: list[str]
    started: str
    finished: str
    input_paths: dict[str, str]
    input_holders: dict[str, dict[str, str]]  # argument -> {path: sha256}, see inputs.ProvenInput
    settings: dict[str, str]  # params.yaml, constraints.txt, ...: path -> sha256 of the bytes
    code: CodeState
    closure_files: int  # of the stage's import closure
    closure_sha256: str  # of their bytes
    byproducts: dict[str, tuple[str, str]]  # path -> (role, sha256)
    internal: dict[str, Any] = field(default_factory=dict)  # machine, threads, switches
    versions: dict[str, str] = field(default_factory=dict)


def in_toto(kind: str, subjects: Sequence[Mapping[str, Any]], predicate: Mapping[str, Any]) -> dict[str, Any]:
    """A statement of the predicate type `kind`."""
    return {"_type": STATEMENT_TYPE, "subject": list(subjects), "predicateType": kind, "predicate": dict(predicate)}


def placed(statement: Mapping[str, Any], place: Mapping[str, Any]) -> dict[str, Any]:
    """`statement` with its place in the ledger, {"ledger", "seq", "prev"}, where the form of its predicate has room."""
    predicate = dict(statement["predicate"])
    if statement["predicateType"] == PREDICATE_TYPE:
        build = dict(predicate["buildDefinition"])
        build["internalParameters"] = {**build["internalParameters"], PLACE: dict(place)}
        predicate["buildDefinition"] = build
    else:
        predicate[PLACE] = dict(place)
    return {**statement, "predicate": predicate}


def place_of(statement: Mapping[str, Any]) -> Any:
    """What `placed` put there; None where it says no place."""
    predicate = statement.get("predicate")
    if statement.get("predicateType") == PREDICATE_TYPE and isinstance(predicate, Mapping):
        build = predicate.get("buildDefinition")
        predicate = build.get("internalParameters") if isinstance(build, Mapping) else None
    return predicate.get(PLACE) if isinstance(predicate, Mapping) else None


def build_statement(
    derivation: Derivation, run: RunFacts, subjects: Mapping[str, str], sizes: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """`subjects`: path of each output file -> sha256; `sizes`: bytes of those that are known."""
    build = {
        "buildType": f"urn:whale:stage:{derivation.stage}:2",
        "externalParameters": {
            "stage": derivation.stage,
            "item": derivation.item,
            "command": run.command,
            "params": floats_as_text(derivation.config),
        },
        "internalParameters": {"derivation_sha256": derivation.digest(), **floats_as_text(run.internal)},
        "resolvedDependencies": [_code(run), *_settings(run), *_inputs(derivation, run)],
    }
    details = {
        "builder": {"id": "urn:whale:stage-runner:2", "version": run.versions},
        "metadata": {"invocationId": run.run_id, "startedOn": run.started, "finishedOn": run.finished},
        "byproducts": [
            {"name": path, "digest": {"sha256": digest}, "annotations": {"role": role}}
            for path, (role, digest) in sorted(run.byproducts.items())
        ],
    }
    rows = [_subject(path, digest, sizes or {}) for path, digest in sorted(subjects.items())]
    return in_toto(PREDICATE_TYPE, rows, {"buildDefinition": build, "runDetails": details})


def _subject(path: str, digest: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": path, "digest": {"sha256": digest}}
    return row | {"annotations": {"size": sizes[path]}} if path in sizes else row


def _code(run: RunFacts) -> dict[str, Any]:
    """Named by its commit, or, where there is no git, by the import closure alone."""
    code = run.code
    return {
        "name": "code",
        "digest": {"gitCommit": code.commit} if code.commit else {"sha256": run.closure_sha256},
        "annotations": {
            "role": "code",
            "dirty": code.is_dirty,
            "tree": code.tree,
            "closure_files": run.closure_files,
            "closure_sha256": run.closure_sha256,
        },
    }


def _settings(run: RunFacts) -> list[dict[str, Any]]:
    roles = {"params.yaml": "params", "constraints.txt": "lock"}
    return [
        {"name": path, "digest": {"sha256": digest}, "annotations": {"role": roles.get(path, "settings")}}
        for path, digest in sorted(run.settings.items())
    ]


def _inputs(derivation: Derivation, run: RunFacts) -> list[dict[str, Any]]:
    """`holders` leads to the runs that made an input: each is a subject of theirs."""
    return [
        {
            "name": run.input_paths[name],
            "digest": {"sha256": digest},
            "annotations": {"role": "data", "argument": name, "holders": run.input_holders[name]},
        }
        for name, digest in sorted(derivation.inputs.items())
    ]


def floats_as_text(value: Any) -> Any:
    """Floats as their `repr`: the statement passes through parsers that do not keep every float."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): floats_as_text(each) for key, each in value.items()}
    return [floats_as_text(each) for each in value] if isinstance(value, list | tuple) else value
