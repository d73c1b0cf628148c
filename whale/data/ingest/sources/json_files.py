"""Small metadata files of datasets: bounded, plain JSON, nothing evaluated."""

import json
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError, MissingInputError
from whale.data.ingest.sources.impostors import impostor_at, unreadable

MAX_JSON_BYTES = 16 * 2**20
MAX_LINES_BYTES = 512 * 2**20


def read_json(path: Path, remedy: str | None = None) -> Any:
    _require_small(path, MAX_JSON_BYTES, remedy)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise unreadable(path, "not valid JSON", str(error)) from None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """One object per line."""
    _require_small(path, MAX_LINES_BYTES)
    if (told := impostor_at(path)) is not None:
        raise BadDataError(f"not JSON lines: it is {told[0]}", file=path, remedy=told[1])
    rows = []
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise BadDataError("not valid JSON", file=path, place=f"line {number}", found=str(error)) from None
            if not isinstance(row, dict):
                raise BadDataError("not an object", file=path, place=f"line {number}", found=type(row).__name__)
            rows.append(row)
    return rows


def _require_small(path: Path, limit: int, remedy: str | None = None) -> None:
    if not path.is_file():
        raise MissingInputError(f"no {path.name}", file=path.parent, remedy=remedy)
    if path.stat().st_size > limit:
        raise BadDataError("file too large", file=path, found=path.stat().st_size, expected=f"<= {limit}")
