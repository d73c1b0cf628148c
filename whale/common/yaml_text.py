"""YAML of others as plain data: the one way in. No tag runs anything, no alias multiplies, no depth or size is theirs.

The events of the parser are counted before a value is made of them: depth, nodes (an alias as often as it is used, so
that nine lines cannot stand for a billion), numbers of many digits.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from whale.common.errors import ConfigError
from whale.common.limits import NESTING, NUMBER_CHARACTERS, YAML_BYTES, YAML_NODES

PLAIN_TAGS = {"map", "seq", "str", "int", "float", "bool", "null"}
TAG = "tag:yaml.org,2002:"
NUMBER = re.compile(r"[-+.0-9][-+0-9a-fA-FxXoObB_:.]*")


def load_yaml(path: str | Path) -> Any:
    """Plain YAML data of a small file; ConfigError names the place of whatever is wrong."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError("file not found", file=path, remedy="run from the project's root, or name another file")
    if path.stat().st_size > YAML_BYTES:
        raise ConfigError("file too large", file=path, found=path.stat().st_size, expected=f"<= {YAML_BYTES} bytes")
    return parse_yaml(path.read_bytes(), path)


def load_sections(path: str | Path) -> dict[str, Any]:
    """A YAML file that is a mapping, such as params.yaml; {} where it is empty."""
    found = load_yaml(path)
    if found is not None and not isinstance(found, dict):
        raise ConfigError("not a mapping of sections", file=path, found=type(found).__name__, expected="name: values")
    return {str(name): value for name, value in (found or {}).items()}


def section_of(path: str | Path, name: str) -> dict[str, Any]:
    """One section of such a file; {} where it is absent or empty."""
    found = load_sections(path).get(name) if Path(path).is_file() else None
    if found is not None and not isinstance(found, dict):
        raise ConfigError("not a mapping", file=path, place=name, found=type(found).__name__, expected="name: value")
    return found or {}


def parse_yaml(data: bytes | str, file: str | Path) -> Any:
    """One document. Keys are text or numbers; a date stays text."""
    if len(data) > YAML_BYTES:
        raise ConfigError("file too large", file=file, found=len(data), expected=f"<= {YAML_BYTES} bytes")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        _count(text, file)
        return _Loader(text).get_single_data()
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8 text", file=file, place=f"byte {error.start}", found=error.reason) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        found = getattr(error, "problem", None) or str(error)
        raise ConfigError("not valid YAML", file=file, place=_place(mark), found=found) from None
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"[:200]
        raise ConfigError("not valid YAML", file=file, found=found, expected="plain values") from None


class _Loader(yaml.CSafeLoader):
    """Values as params and specs have them: no dates, bytes, sets or ordered pairs."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{TAG}timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def _count(text: str, file: str | Path) -> None:
    """Raise ConfigError for what would take more than our limits."""
    sizes: dict[str, int] = {}  # of anchored nodes that are complete
    stack: list[tuple[str | None, int]] = [(None, 0)]  # (anchor, nodes before it) of what is open
    nodes = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _refused(event, file, "an alias of what is not complete", event.anchor, "an earlier anchor")
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            _check_scalar(event, file)
            nodes += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            _check_tag(event, file)
            stack.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            anchor, before = stack.pop()
            if anchor:
                sizes[anchor] = nodes - before
        if len(stack) > NESTING:
            raise _refused(event, file, "nested too deep", f"more than {NESTING} levels", f"<= {NESTING}")
        if nodes > YAML_NODES:
            expected = f"<= {YAML_NODES}, aliases counted as often as they are used"
            raise _refused(event, file, "too many values", f"more than {YAML_NODES}", expected)


def _check_scalar(event: yaml.ScalarEvent, file: str | Path) -> None:
    _check_tag(event, file)
    is_number = event.implicit[0] or event.tag in (f"{TAG}int", f"{TAG}float")
    if is_number and len(event.value) > NUMBER_CHARACTERS and NUMBER.fullmatch(event.value):
        found = f"{len(event.value)} characters"
        raise _refused(event, file, "a number of too many digits", found, f"<= {NUMBER_CHARACTERS}")


def _check_tag(event: Any, file: str | Path) -> None:
    if event.tag not in (None, "!") and event.tag.removeprefix(TAG) not in PLAIN_TAGS:
        raise _refused(event, file, "a tag that stands for no plain value", event.tag, ", ".join(sorted(PLAIN_TAGS)))


def _refused(event: Any, file: str | Path, what: str, found: object, expected: str) -> ConfigError:
    return ConfigError(what, file=file, place=_place(event.start_mark), found=found, expected=expected)


def _place(mark: Any) -> str | None:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else None
