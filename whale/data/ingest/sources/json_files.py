"""Small metadata files of datasets: bounded, plain JSON, nothing evaluated."""

from pathlib import Path
from typing import Any

from whale.common import json_files
from whale.common.errors import BadDataError, MissingInputError
from whale.common.json_files import parse_object
from whale.common.limits import JSON_LINES_BYTES, JSON_VALUES


def read_json(path: Path, remedy: str | None = None) -> Any:
    return json_files.read_json(path, f"no {path.name}", remedy)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """One object per line."""
    if not path.is_file():
        raise MissingInputError(f"no {path.name}", file=path.parent)
    if path.stat().st_size > JSON_LINES_BYTES:
        raise BadDataError("file too large", file=path, found=path.stat().st_size, expected=f"<= {JSON_LINES_BYTES}")
    rows, values = [], 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            values += line.count(b",") + line.count(b"[") + line.count(b"{")
            if values > JSON_VALUES:
                raise BadDataError("too many values", file=path, place=f"line {number}", expected=f"<= {JSON_VALUES}")
            rows.append(parse_object(line, path, f"line {number}"))
    return rows
