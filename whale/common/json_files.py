"""The one way JSON is written: equal values give equal bytes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.boundary import reading
from whale.common.errors import BadDataError, MissingInputError
from whale.common.files import write_atomically
from whale.common.limits import JSON_BYTES, JSON_VALUES


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


def read_json(path: Path, what: str = "no such file", remedy: str | None = None) -> Any:
    """A small JSON file; MissingInputError, or BadDataError for what is too large or no JSON."""
    if not path.is_file():
        raise MissingInputError(what, file=path, remedy=remedy)
    if path.stat().st_size > JSON_BYTES:
        raise BadDataError("file too large", file=path, found=path.stat().st_size, expected=f"<= {JSON_BYTES}")
    return parse_json(path.read_bytes(), path)


def parse_json(data: bytes | str, file: str | Path, place: str | None = None) -> Any:
    """Plain data; BadDataError for what is no JSON, is too large or too deep, or holds text that is no Unicode.

    The values are counted before one of them is made: `[],[],[],...` takes thirty times its own size in memory.
    """
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    # a value takes a byte, so a short text holds few; and one byte is found many times faster than two
    many = len(data) > JSON_VALUES and sum(map(data.count, (b",", b"[", b"{"))) > JSON_VALUES
    if len(data) > JSON_BYTES or many:
        raise BadDataError("too large for JSON", file=file, place=place, found=f"{len(data)} bytes",
                           expected=f"<= {JSON_BYTES} bytes, {JSON_VALUES} values")  # fmt: skip
    with reading(file, "not JSON", place=place, expected="JSON"):
        value = json.loads(data.decode("utf-8"))
        if b"\\" in data and b"\\u" in data:  # half of a surrogate pair is no text, and no file name
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value


def parse_object(data: bytes | str, file: str | Path, place: str | None = None) -> dict[str, Any]:
    """As `parse_json`, and it is an object."""
    value = parse_json(data, file, place)
    if not isinstance(value, dict):
        raise BadDataError("not a JSON object", file=file, place=place, found=type(value).__name__, expected="{...}")
    return value


def remembered(path: Path | None) -> dict[str, Any]:
    """The JSON object of a file whose loss costs nothing but time: empty where it is absent, torn or beyond a limit."""
    try:
        is_small = path is not None and path.stat().st_size <= JSON_BYTES
        found = parse_json(path.read_bytes(), path) if path and is_small else {}
    except (OSError, BadDataError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: object) -> str:
    """`pretty_json` of `value` as the whole content of `path`; returns the sha256 of its bytes."""
    payload = pretty_json(value)
    write_atomically(path, payload)
    return hashlib.sha256(payload).hexdigest()
