"""The one way JSON is written: equal values give equal bytes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError, MissingInputError
from whale.common.files import write_atomically

MAX_JSON_BYTES = 64 * 2**20


def canonical_json(value: object) -> str:
    """Sorted keys, no spaces, ASCII, no NaN: what digests and signatures are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def pretty_json(value: object) -> bytes:
    """For files that people read: sorted keys, two spaces, ASCII, no NaN, a newline at the end."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode()


def flatten(values: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists and empty mappings are leaves."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        full = f"{prefix}.{name}" if prefix else str(name)
        flat |= flatten(value, full) if isinstance(value, Mapping) and value else {full: value}
    return flat


def changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{name: [value of one, value of the other]} of all that differs; None stands for absent."""
    return {
        name: [first.get(name), second.get(name)]
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name) or (name in first) != (name in second)
    }


def read_json(path: Path) -> Any:
    """A small JSON file; MissingInputError, or BadDataError for what is too large or no JSON."""
    if not path.is_file():
        raise MissingInputError("a file of the model is missing", file=path)
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BadDataError("file too large", file=path, found=path.stat().st_size, expected=f"<= {MAX_JSON_BYTES}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadDataError("not JSON", file=path, found=str(error)[:200], expected="JSON") from None


def remembered(path: Path | None) -> dict[str, Any]:
    """The JSON object of a file whose loss costs nothing but time: empty where it is absent or torn."""
    try:
        found = json.loads(path.read_bytes()) if path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: object) -> str:
    """`pretty_json` of `value` as the whole content of `path`; returns the sha256 of its bytes."""
    payload = pretty_json(value)
    write_atomically(path, payload)
    return hashlib.sha256(payload).hexdigest()
