"""PROV-JSON (W3C): artefacts as entities, stage runs as activities, `used` and `wasGeneratedBy` between them."""

from typing import Any

from whale.audit.run_graph import RunGraph, StageRun, Target

PREFIX = {"whale": "urn:whale:"}


def prov(target: Target, graph: RunGraph) -> dict[str, Any]:
    """The document of everything above `target`; names are digests, so equal bytes are one entity."""
    document: dict[str, Any] = {"prefix": PREFIX, "entity": {}, "activity": {}, "used": {}, "wasGeneratedBy": {}}
    for run in graph.ancestors(target.run):
        activity = f"whale:run-{run.run_id}"
        document["activity"][activity] = _activity(run)
        for name in run.outputs:
            entity = _entity(document, name, run.subjects[name])
            relation = {"prov:entity": entity, "prov:activity": activity}
            document["wasGeneratedBy"][f"_:g{len(document['wasGeneratedBy'])}"] = relation
        for path, digest in run.read.items():
            relation = {"prov:activity": activity, "prov:entity": _entity(document, path, digest)}
            document["used"][f"_:u{len(document['used'])}"] = relation
    return document


def _activity(run: StageRun) -> dict[str, Any]:
    return {
        "prov:startTime": run.started,
        "prov:endTime": run.finished,
        "whale:stage": run.name,
        "whale:statement": run.id,
    }


def _entity(document: dict[str, Any], name: str, digest: str) -> str:
    entity = f"whale:sha256-{digest}"
    document["entity"].setdefault(entity, {"whale:name": name, "whale:sha256": digest})
    return entity
