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
        for path, digest in _used(run).items():
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


def _used(run: StageRun) -> dict[str, str]:
    """Holders, or the input itself where it has none."""
    found: dict[str, str] = {}
    for each in run.inputs:
        found |= each.holders or {each.path: each.sha256}
    return found


def _entity(document: dict[str, Any], name: str, digest: str) -> str:
    entity = f"whale:sha256-{digest}"
    document["entity"].setdefault(entity, {"whale:name": name, "whale:sha256": digest})
    return entity
