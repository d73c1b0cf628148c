"""OpenLineage run events, START and COMPLETE of each stage run, in the order of the ledger. https://openlineage.io/spec/2-0-2"""

import uuid
from typing import Any

from whale.audit.run_graph import RunGraph, StageRun, Target

PRODUCER = "urn:whale-world-model"
SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACET = "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"


def openlineage(target: Target, graph: RunGraph) -> list[dict[str, Any]]:
    """A START and a COMPLETE event for every run above `target`; runs that failed sign nothing and have none."""
    return [_event(run, kind) for run in graph.ancestors(target.run) for kind in ("START", "COMPLETE")]


def _event(run: StageRun, kind: str) -> dict[str, Any]:
    outputs = {name: run.subjects[name] for name in run.outputs}
    return {
        "eventType": kind,
        "eventTime": run.started if kind == "START" else run.finished,
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
        "run": {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:whale:run:{run.run_id}")), "facets": {}},
        "job": {"namespace": "whale", "name": run.name, "facets": {}},
        "inputs": [_dataset(name, digest) for name, digest in sorted(run.read.items())],
        "outputs": [_dataset(name, digest) for name, digest in sorted(outputs.items())] if kind == "COMPLETE" else [],
    }


def _dataset(name: str, digest: str) -> dict[str, Any]:
    version = {"_producer": PRODUCER, "_schemaURL": FACET, "datasetVersion": f"sha256:{digest}"}
    return {"namespace": "whale", "name": name, "facets": {"version": version}}
