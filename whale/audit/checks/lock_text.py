"""The text of dvc.lock: read by libyaml (it has thousands of lines), and compared with what DVC would write.

DVC writes YAML 1.2 by ruamel: `1e-05` is a number, null is nothing, and long text is folded after a space. Only a text
in that form is accepted, so that no byte of it is without a meaning.
"""

import re
from pathlib import Path
from typing import Any

import yaml

LOCK = Path("dvc.lock")
FLOAT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z")


class _Loader(yaml.CSafeLoader):
    pass


class _Dumper(yaml.CSafeDumper):
    pass


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789"))
_Dumper.add_representer(float, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", repr(value)))
_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))


def parse(text: str) -> Any:
    """Plain data; yaml.YAMLError for what is none."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def params_in_lock(file: str) -> dict[str, dict[str, Any]]:
    """Stage -> dotted section -> what `file` said when DVC noted it; empty where dvc.lock does not tell."""
    try:
        stages = parse(LOCK.read_text(encoding="utf-8"))["stages"]
        return {name: dict(entry.get("params", {}).get(file, {})) for name, entry in stages.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def canonical(document: Any) -> str:
    """As DVC writes it, apart from the folding: block style, keys in their order."""
    style: dict[str, Any] = {"sort_keys": False, "default_flow_style": False, "width": 2**31 - 1, "allow_unicode": True}
    return yaml.dump(document, Dumper=_Dumper, **style)


def is_canonical(text: str, document: Any) -> bool:
    """Whether DVC could have written `text` for `document`; ruamel itself is asked where the fast way says no."""
    return canonical(document) == unfold(text) or _by_ruamel(document) == text


def unfold(text: str) -> str:
    """Join what was folded: a line that ends in a space goes on in the next, which is indented by two more."""
    lines: list[str] = []
    for line in text.split("\n"):
        indent = len(lines[-1]) - len(lines[-1].lstrip(" ")) + 2 if lines else 0
        goes_on = bool(lines) and lines[-1].endswith(" ") and line[:indent] == " " * indent
        if goes_on and line[indent : indent + 1] not in ("", " ", "\t"):
            lines[-1] += line[indent:]
        else:
            lines.append(line)
    return "\n".join(lines)


def _by_ruamel(document: Any) -> str | None:
    try:
        from ruamel.yaml import YAML
    except ImportError:
        return None
    from io import StringIO

    stream, writer = StringIO(), YAML()
    writer.default_flow_style = False
    writer.dump(document, stream)
    return stream.getvalue()
