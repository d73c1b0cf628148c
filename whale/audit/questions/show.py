"""`show`: which datasets, with what weight, really drawn how often, from which checkpoints (Q1, Q3, Q8)."""

from typing import Any

from whale.audit.facts import as_row, datasets_of, is_training, receipt_of, trainings_of, weights_of
from whale.audit.run_graph import RunGraph, StageRun, Target


def show(target: Target, graph: RunGraph) -> dict[str, Any]:
    """Everything about the origin of `target` as one plain object; `missing` names each field that nobody recorded."""
    run = target.run
    shares = [row for each in trainings_of(run, graph) for row in _shares(each)]
    datasets = [_dataset_row(each.summary) for each in datasets_of(run, graph)]
    shown = {
        "artefact": {"name": target.name, "sha256": target.sha256, "path": str(target.path)},
        "made_by": {
            "stage": run.name,
            "run": run.run_id,
            "statement": run.id,
            "started": run.started,
            "finished": run.finished,
            "commit": run.code["commit"],
            "dirty": run.code["dirty"],
            "derivation": run.internal["derivation_sha256"],
            "weights_sha256": weights_of(run),
        },
        "datasets": datasets,
        "sampled": shares,
        "checkpoints": [as_row(each) for each in trainings_of(run, graph) if each.id != run.id],
        "runs": [each.name for each in graph.ancestors(run)],
        "accepted": [row for each in graph.ancestors(run) for row in _accepted(each, graph)],
    }
    return shown | {"missing": missing_fields(shown, is_training(run))}


def missing_fields(shown: dict[str, Any], needs_datasets: bool) -> list[str]:
    """Dotted names of what an auditor asks for and nobody recorded."""
    missing = []
    for row in shown["datasets"]:
        missing += [f"{row['name']}.{key}" for key in ("sha256", "version", "licence", "evidence") if not row[key]]
    if needs_datasets and not shown["datasets"]:
        missing.append("datasets")
    if needs_datasets and not shown["sampled"]:
        missing.append("sampled")
    if not shown["made_by"]["derivation"]:
        missing.append("made_by.derivation")
    return missing


def _accepted(run: StageRun, graph: RunGraph) -> list[dict[str, Any]]:
    """Edits of the code that somebody declared to change nothing, and on what ground."""
    return [
        {
            "stage": run.name,
            "on": each.accepted,
            "basis": each.basis,
            "because": each.because,
            "files": sorted(each.files),
            "checked": each.checked,
        }
        for each in graph.acceptances(run)
    ]


def _dataset_row(summary: dict[str, Any]) -> dict[str, Any]:
    licence = summary["licence"]
    return {
        "name": summary["name"],
        "sha256": summary["upstream"]["sha256"],
        "version": f"{summary['upstream']['dataset']} {summary['upstream']['version']}",
        "files": summary["upstream"]["files"],
        "licence": licence["spdx"],
        "evidence": licence["evidence"],
        "read": summary["read"]["episodes"],
        "kept": sum(part["episodes"] for part in summary["kept"].values()),
        "kept_by_split": {split: part["episodes"] for split, part in summary["kept"].items()},
        "dropped": {reason: part["episodes"] for reason, part in summary["dropped"].items()},
        "steps": sum(part["steps"] for part in summary["kept"].values()),
    }


def _shares(run: Any) -> list[dict[str, Any]]:
    """A row per dataset that a training drew from: the weight as set, the share as planned, the share as drawn."""
    receipt = receipt_of(run) or {"datasets": {}}
    return [
        {
            "stage": run.name,
            "dataset": name,
            "weight_set": row["raw_weight"],
            "planned_share": row["planned_share"],
            "segment_share": row["segment_share"],
            "frame_share": row["valid_frame_share"],
            "segments": row["segments"],
            "frames": row["valid_frames"],
            "epochs": row["epochs"],
        }
        for name, row in receipt["datasets"].items()
    ]
