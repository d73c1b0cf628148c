"""Is everything recorded that an auditor asks for? Required fields of every run above an artefact, counted."""

from collections.abc import Callable, Mapping
from typing import Any

from whale.audit.facts import is_training, read_json, receipt_of
from whale.audit.run_graph import RunGraph, StageRun

Check = Callable[[StageRun], Any]


def _environment(run: StageRun) -> dict[str, Any]:
    return read_json(run, "environment.json") or {}


OF_EVERY_RUN: Mapping[str, Check] = {
    "command": lambda run: run.command,
    "derivation": lambda run: run.internal.get("derivation_sha256"),
    "code closure": lambda run: run.code["closure_sha256"] and run.byproduct("closure.json"),
    "code patch": lambda run: not run.code["dirty"] or run.byproduct("code.patch") is not None,
    "start and end": lambda run: run.started and run.finished,
    "subjects by sha256": lambda run: run.subjects and all(len(digest) == 64 for digest in run.subjects.values()),
    "inputs by sha256": lambda run: all(len(each.sha256) == 64 for each in run.inputs),
    "params.yaml": lambda run: "params.yaml" in run.settings,
    "python": lambda run: _environment(run).get("python"),
    "packages": lambda run: _environment(run).get("installed"),
    "processor": lambda run: _environment(run).get("cpus"),
    "opened files": lambda run: run.internal.get("listened"),
    "nothing undeclared": lambda run: run.internal.get("undeclared") == 0,
    "code as at the beginning": lambda run: not run.internal.get("edited_meanwhile"),
}
OF_TRAININGS: Mapping[str, Check] = {
    "seed": lambda run: "seed" in run.params,
    "receipt": receipt_of,
    "workers and threads": lambda run: "workers" in run.internal and "threads" in run.internal,
    "determinism flags": lambda run: "torch_threads" in _environment(run),
    "datasets in lineage.json": lambda run: (read_json(run, "lineage.json") or {}).get("datasets"),
    "lineage.json complete": lambda run: (read_json(run, "lineage.json") or {}).get("complete"),
}
OF_INGESTS: Mapping[str, Check] = {
    "dataset digest": lambda run: (run.dataset() or {}).get("upstream", {}).get("sha256"),
    "licence": lambda run: (run.dataset() or {}).get("licence", {}).get("spdx"),
    "licence evidence": lambda run: (run.dataset() or {}).get("licence", {}).get("evidence"),
    "kept and dropped": lambda run: "dropped" in (run.dataset() or {}),
    "episode table": lambda run: run.byproduct("episodes.parquet"),
}


def completeness(run: StageRun, graph: RunGraph) -> dict[str, Any]:
    """{"fields", "present", "percent", "missing": ["stage: field"], "accepted"} over all runs above and with `run`.

    `accepted`: edits of code that were accepted since a stage ran; those stand for what they replace.
    """
    missing, accepted, total = [], [], 0
    for each in graph.ancestors(run):
        accepted += [f"{each.name}: {edit.describe()}" for edit in graph.acceptances(each)]
        checks = dict(OF_EVERY_RUN)
        checks |= OF_TRAININGS if is_training(each) else {}
        checks |= OF_INGESTS if each.stage == "ingest" else {}
        total += len(checks)
        missing += [f"{each.name}: {name}" for name, check in checks.items() if not check(each)]
    present = total - len(missing)
    percent = round(100 * present / total, 2)
    return {"fields": total, "present": present, "percent": percent, "missing": missing, "accepted": accepted}
