"""The text of dvc.lock, read and written by ruamel, as DVC itself does it (YAML 1.2: `1e-05` is a number).

Only a text in exactly the form that DVC writes is accepted, so that no byte of it is without a meaning.
"""

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

LOCK = Path("dvc.lock")


def parse(text: str) -> Any:
    """Plain data; ValueError for what is none."""
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from None


def canonical(document: Any) -> str:
    """As DVC writes it; ValueError for what YAML cannot say."""
    stream, writer = StringIO(), YAML()
    writer.default_flow_style = False
    try:
        writer.dump(document, stream)
    except YAMLError as error:
        raise ValueError(str(error)) from None
    return stream.getvalue()


def params_in_lock(file: str) -> dict[str, dict[str, Any]]:
    """Stage -> dotted section -> what `file` said when DVC noted it; empty where dvc.lock does not tell."""
    try:
        stages = parse(LOCK.read_text(encoding="utf-8"))["stages"]
        return {name: dict(entry.get("params", {}).get(file, {})) for name, entry in stages.items()}
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return {}
