"""Two checkpoints: what differs in data, weights of the mixture, episodes, code, parameters, environment (Q13)."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from whale.audit.facts import Dataset, datasets_of, receipt_of, tensor_sha256, trainings_of
from whale.audit.run_graph import RunGraph, StageRun, Target
from whale.common.files import WEIGHTS
from whale.common.json_files import changed, flatten

Trainings = list[tuple[str, StageRun]]  # by stage without item, so that two entries of one stage are compared


def diff(one: Target, other: Target, graph: RunGraph) -> dict[str, Any]:
    """Differences by subject, each {name: [of one, of the other]}; all empty if and only if the digests are equal.

    `tensors`: "equal" says that the weights are the same although the folders are not.
    """
    if one.sha256 == other.sha256:
        return {"equal": True, "differences": {}}
    first, second = _trainings(one.run, graph), _trainings(other.run, graph)
    differences = {
        "datasets": changed(_datasets(one.run, graph), _datasets(other.run, graph)),
        "episodes": _episodes(one.run, other.run, graph),
        "mixture": changed(_mixture(first), _mixture(second)),
        "code": changed(_code(first), _code(second)),
        "params": changed(_params(first), _params(second)),
        "environment": changed(_environment(one.run), _environment(other.run)),
        "checkpoints": changed(_outputs(first), _outputs(second)),
        "tensors": _tensors(one, other),
    }
    return {"equal": False, "differences": {name: found for name, found in differences.items() if found}}


def _trainings(run: StageRun, graph: RunGraph) -> Trainings:
    return [(each.stage, each) for each in trainings_of(run, graph) or [run]]


def _datasets(run: StageRun, graph: RunGraph) -> dict[str, Any]:
    shown = ("upstream", "licence", "kept", "dropped", "spec_digest")
    return flatten({each.name: {key: each.summary[key] for key in shown} for each in datasets_of(run, graph)})


def _episodes(one: StageRun, other: StageRun, graph: RunGraph) -> dict[str, Any]:
    """Kept episodes that only one has; tables that are the same bytes are not read."""
    first, second = (
        {each.run.byproducts["episodes.parquet"][1]: each for each in datasets_of(run, graph)} for run in (one, other)
    )
    old = _kept_payloads(each for digest, each in first.items() if digest not in second)
    new = _kept_payloads(each for digest, each in second.items() if digest not in first)
    found = {}
    for name in sorted({*old, *new}):
        gone, come = len(old[name] - new[name]), len(new[name] - old[name])
        if gone or come:
            found[name] = [f"-{gone}", f"+{come}"]
    return found


def _kept_payloads(datasets: Iterable[Dataset]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for dataset in datasets:
        table = dataset.episodes()
        found[dataset.name] |= set(table.filter(table["kept"])["payload_sha256"].to_pylist())
    return found


def _mixture(trainings: Trainings) -> dict[str, Any]:
    shown = ("raw_weight", "planned_share", "segment_share", "valid_frame_share")
    return {
        f"{stage}.{dataset}.{key}": row[key]
        for stage, run in trainings
        for dataset, row in (receipt_of(run) or {"datasets": {}})["datasets"].items()
        for key in shown
    }


def _code(trainings: Trainings) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for stage, run in trainings:
        rows |= {f"{stage}.{key}": run.code[key] for key in ("commit", "dirty", "tree")}
        closure = run.told("closure.json") or {}
        rows |= {f"{stage}.{file}": row["sha256"] for file, row in closure.items()}
    return rows


def _params(trainings: Trainings) -> dict[str, Any]:
    return {name: value for stage, run in trainings for name, value in flatten(run.params, stage).items()}


def _environment(run: StageRun) -> dict[str, Any]:
    return flatten(run.told("environment.json") or {})


def _outputs(trainings: Trainings) -> dict[str, Any]:
    return {stage: run.subjects[run.outputs[0]] for stage, run in trainings}


def _tensors(one: Target, other: Target) -> dict[str, Any]:
    """Only where both weights still lie there."""
    files = [Path(target.folder) / WEIGHTS for target in (one, other)]
    if not all(file.is_file() for file in files):
        return {}
    digests = [tensor_sha256(file) for file in files]
    return {"tensor_sha256": digests if digests[0] != digests[1] else ["equal", "equal"]}
