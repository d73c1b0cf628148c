"""Which checkpoint, data, code and judge produced a number (Q16): from a metrics file and a key back to all of them."""

from pathlib import Path
from typing import Any

from whale.audit.facts import is_training, weights_of
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.errors import MissingInputError
from whale.common.files import MANIFEST_NAME
from whale.common.json_files import flatten, parse_json


def why(text: str, graph: RunGraph) -> dict[str, Any]:
    """`FILE[#KEY]`: FILE is a metrics file that a stage published, KEY a dotted name in it."""
    name, _, key = text.partition("#")
    target = graph.find(name)
    payload = target.path.read_bytes() if target.path.is_file() else b""
    values = flatten(parse_json(payload, target.path)) if target.path.suffix == ".json" and payload else {}
    if key and key not in values:
        close = [known for known in values if key.split(".")[-1] in known][:5]
        raise MissingInputError("no such number", file=target.path, found=key, expected=", ".join(close) or len(values))
    run = target.run
    parents = graph.parents(run)
    return {
        "file": {"name": target.name, "sha256": target.sha256},
        "key": key or None,
        "value": values.get(key),
        "protocol": protocol_of(key, values),
        "made_by": {"stage": run.name, "run": run.run_id, "finished": run.finished, "commit": run.code["commit"]},
        "params": run.params,
        "checkpoints": [
            _row(parent) | {"weights_sha256": weights_of(parent)} for parent in parents if is_training(parent)
        ],
        "data": [_row(parent) for parent in parents if not is_training(parent)],
        "judge": _judge(run),
    }


def protocol_of(key: str, values: dict[str, Any]) -> str | None:
    """The nearest protocol string above the key."""
    parts = key.split(".")
    for end in range(len(parts), -1, -1):
        if (found := values.get(".".join([*parts[:end], "protocol"]).lstrip("."))) is not None:
            return str(found)
    return None


def _judge(run: StageRun) -> dict[str, Any] | None:
    """Model and prompt digests of a judge, where an evaluation says that it used one."""
    return next((value for section in run.params.values() if isinstance(section, dict)
                 for key, value in section.items() if key == "judge"), None)  # fmt: skip


def _row(run: StageRun) -> dict[str, Any]:
    output = run.outputs[0]
    folder = str(Path(output).parent) if Path(output).name == MANIFEST_NAME else output
    return {"stage": run.name, "output": folder, "sha256": run.subjects[output]}
