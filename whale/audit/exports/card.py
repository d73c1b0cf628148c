"""The model card: what training wrote into the checkpoint's README.md, then what is known since.

Front matter in the dialect of the Hugging Face hub (https://huggingface.co/docs/hub/model-cards): each number stands in
`model-index` with its protocol. A function of the ledger and of files as they were signed: no clock, no host.
"""

from itertools import groupby
from typing import Any

import yaml

from whale.audit.exports.evaluations import Number, numbers_of
from whale.audit.facts import datasets_of
from whale.audit.questions.licences import LicencePolicy, licences
from whale.audit.run_graph import RunGraph, Target
from whale.common.errors import BadDataError

CARD = "README.md"
FENCE = "---\n"
NOT_RECORDED = "not recorded"


def model_card(target: Target, graph: RunGraph) -> str:
    """ASCII Markdown; `target` must be as it was signed. BadDataError if its README.md has broken front matter."""
    front, body = _written_by_training(target, graph)
    numbers = numbers_of(target, graph)
    if numbers:
        front["model-index"] = [{"name": target.run.name, "results": [_result(each) for each in numbers]}]
    head = yaml.safe_dump(front, sort_keys=False, width=120)
    text = "\n".join([body.strip(), "", *_origin(target), *_evaluations(numbers), *_licences(target, graph)])
    return f"{FENCE}{head}{FENCE}\n{text}\n".encode("ascii", "backslashreplace").decode()


def _written_by_training(target: Target, graph: RunGraph) -> tuple[dict[str, Any], str]:
    """(front matter, text below it) of the published README.md; a minimum where training left none."""
    path = target.folder / CARD
    if not path.is_file():
        names = sorted({each.name for each in datasets_of(target.run, graph)})
        tags = ["robotics", "world-model"]
        return {"tags": tags, "library_name": "whale-world-model", "datasets": names}, f"# {target.run.name}"
    text = path.read_text(encoding="ascii")
    if not text.startswith(FENCE) or text.count(FENCE) < 2:
        return {}, text
    head, body = text.removeprefix(FENCE).split(FENCE, 1)
    try:
        front = yaml.safe_load(head)
    except yaml.YAMLError as error:
        raise BadDataError("front matter is not YAML", file=path, found=str(error)[:200]) from None
    if not isinstance(front, dict):
        raise BadDataError("front matter is no mapping", file=path, found=type(front).__name__)
    return front, body


def _result(number: Number) -> dict[str, Any]:
    """An entry of model-index: one number, the split it was measured on, and how."""
    data, _, split = (number.setting("data") or NOT_RECORDED).partition("/")
    metric = {"type": number.key.rpartition(".")[2], "value": number.value, "name": number.key}
    return {
        "task": {"type": "robotics"},
        "dataset": {"type": data, "name": data, **({"split": split} if split else {})},
        "metrics": [metric | {"args": {"protocol": number.protocol, "file": f"evaluations/{number.stage}.json"}}],
    }


def _origin(target: Target) -> list[str]:
    published = f"Published as `{target.name}`, sha256 `{target.sha256}`, by run {target.run.run_id};"
    return [published, f"signed statement `{target.run.id}`.", ""]


def _evaluations(numbers: list[Number]) -> list[str]:
    """One table per protocol: only numbers of one table were measured in one way."""
    lines = ["## Evaluations"]
    for (stage, protocol), rows in groupby(numbers, key=lambda number: (number.stage, number.protocol)):
        lines += [f"`{stage}`, protocol `{protocol}`:", "", "| number | value |", "|---|---|"]
        lines += [f"| {each.key} | {each.value:.6g} |" for each in rows]
        lines.append("")
    return lines if numbers else [*lines, "None is recorded.", ""]


def _licences(target: Target, graph: RunGraph) -> list[str]:
    rows = licences(target.run, graph, LicencePolicy())["datasets"]
    lines = ["## Licences and citations", "| dataset | licence | evidence | citation |", "|---|---|---|---|"]
    return lines + [f"| {row['dataset']} | {row['spdx']} | {row['evidence']} | {row['citation']} |" for row in rows]
