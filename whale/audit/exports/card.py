"""The model card: what training wrote into the checkpoint's README.md, then what is known since.

Front matter in the dialect of the Hugging Face hub (https://huggingface.co/docs/hub/model-cards): each number stands in
`model-index` with its protocol. A function of the ledger and of files as they were signed: no clock, no host.
"""

from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, Template

from whale.audit.exports.evaluations import Number, numbers_of
from whale.audit.exports.hub import hub_metadata
from whale.audit.questions.licences import LicencePolicy, licences
from whale.audit.run_graph import RunGraph, Target
from whale.common.errors import BadDataError

CARD = "README.md"
TEMPLATE = Path(__file__).parent / "templates/card.md"
FENCE = "---\n"
NOT_RECORDED = "not recorded"


def model_card(target: Target, graph: RunGraph) -> str:
    """ASCII Markdown; `target` must be as it was signed. BadDataError if its README.md has broken front matter."""
    front, body = _written_by_training(target)
    front |= hub_metadata(target.run, graph)
    numbers = numbers_of(target, graph)
    if numbers:
        front["model-index"] = [{"name": target.run.name, "results": [_result(each) for each in numbers]}]
    template = Template(TEMPLATE.read_text(), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    text = template.render(
        front=yaml.safe_dump(front, sort_keys=False, width=120),
        body=body.strip(),
        target=target,
        protocols=groupby(numbers, key=lambda number: (number.stage, number.protocol)),  # a table each
        licences=licences(target.run, graph, LicencePolicy())["datasets"],
    )
    return text.encode("ascii", "backslashreplace").decode()


def _written_by_training(target: Target) -> tuple[dict[str, Any], str]:
    """(front matter, text below it) of the published README.md; a minimum where training left none."""
    path = target.folder / CARD
    if not path.is_file():
        return {"tags": ["robotics", "world-model"]}, f"# {target.run.name}"
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
