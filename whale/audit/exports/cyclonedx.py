"""CycloneDX 1.6 ML-BOM: the checkpoint as a machine-learning-model component, its datasets as data components.

https://cyclonedx.org/docs/1.6/json. Written by hand: the Python library has no modelCard. A function of the ledger.
"""

import uuid
from typing import Any

from whale.audit.facts import datasets_of, trainings_of, weights_of
from whale.audit.run_graph import RunGraph, StageRun, Target

NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


def cyclonedx(target: Target, graph: RunGraph) -> dict[str, Any]:
    """The BOM as a plain object."""
    run = target.run
    data = [_data(dataset.summary) for dataset in datasets_of(run, graph)]
    others = [each for each in trainings_of(run, graph) if each.id != run.id]
    parents = [_model(each, each.outputs[0], each.subjects[each.outputs[0]]) for each in others]
    model = {
        **_model(run, target.name, target.sha256),
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "self-supervised"},
                "task": "robot world model",
                "datasets": [{"ref": each["bom-ref"]} for each in data],
            },
        },
        "properties": [
            {"name": "whale:stage", "value": run.name},
            {"name": "whale:statement", "value": run.id},
            {"name": "whale:derivation", "value": run.internal["derivation_sha256"]},
        ],
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, target.sha256)}",
        "version": 1,
        "metadata": {"timestamp": run.finished, "component": model},
        "components": [*data, *parents],
        "dependencies": [
            {"ref": model["bom-ref"], "dependsOn": [each["bom-ref"] for each in [*data, *parents]]},
            *({"ref": each["bom-ref"]} for each in [*data, *parents]),
        ],
    }


def _data(summary: dict[str, Any]) -> dict[str, Any]:
    licence = summary["licence"]
    return {
        "type": "data",
        "bom-ref": summary["id"],
        "name": summary["name"],
        "version": summary["upstream"]["version"],
        "hashes": [{"alg": "SHA-256", "content": summary["upstream"]["sha256"]}],
        "licenses": [{"license": {"name": licence["spdx"] or "unknown"}}],
        "properties": [{"name": "whale:licence_evidence", "value": str(licence["evidence"])}],
    }


def _model(run: StageRun, name: str, digest: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"artefact:{digest}",
        "name": name,
        "version": digest[:16],
        "hashes": [{"alg": "SHA-256", "content": weights_of(run) or digest}],
    }
