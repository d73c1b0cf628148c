"""One spool file as it was read: the lines of a run, and what they say together. The one reader of spools."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError
from whale.common.files import MANIFEST_NAME, is_alive
from whale.common.json_files import parse_json
from whale.common.stage_args import node_name

Line = dict[str, Any]
MAX_PARAMS, MAX_METRICS = 100, 1000  # per log_batch, limits of MLflow
MAX_NAME, MAX_TEXT = 250, 6000  # what it takes of a name and of a value; longer ones are cut
FIELDS: dict[str, dict[str, Any]] = {  # kind -> what the replay reads of such a line
    "start": {"stage": str, "item": str | None, "profile": str, "tags": dict},
    "params": {"params": dict},
    "metrics": {"step": int | float | None, "metrics": dict},
    "input": {"name": str, "digest": str},
    "artifact": {"path": str, "sha256": str | None},
    "model": {"path": str, "sha256": str, "weights_sha256": str},
    "end": {"status": str, "tags": dict},
}


@dataclass(frozen=True)
class SpooledRun:
    """`lines`: all whole lines, at least the first, which says what run it is."""

    id: str
    lines: list[Line]

    @property
    def start(self) -> Line:
        return self.lines[0]

    @property
    def name(self) -> str:
        """As DVC names the stage."""
        return node_name(self.start["stage"], self.start["item"])

    @property
    def repro(self) -> str | None:
        """The `dvc repro` that it was a part of."""
        return self.start.get("dvc")

    @property
    def commit(self) -> str:
        """The git commit that its code started from."""
        return self.lines[-1].get("tags", {}).get("whale.commit", "unknown")

    @property
    def status(self) -> str | None:
        """As its last line says; KILLED if its process is gone without one; None while it runs."""
        if self.lines[-1]["kind"] == "end":
            return self.lines[-1]["status"]
        return None if is_alive(self.start.get("pid", 0)) else "KILLED"

    def params(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in self.of("params"):
            found |= line["params"]
        return found

    def holders(self) -> dict[str, tuple[str, str]]:
        """What it read: sealed folder -> (sha256 of its manifest, the argument that named it). Where raw data have no
        manifest, the argument's name and our digest of all its files; a single file is a setting, no data set."""
        found: dict[str, tuple[str, str]] = {}
        for line in self.of("input"):
            holders = line.get("holders", {})
            if all(path.endswith(MANIFEST_NAME) for path in holders) and holders:
                found |= {
                    path.removesuffix(f"/{MANIFEST_NAME}"): (digest, line["name"]) for path, digest in holders.items()
                }
            elif list(holders.values()) != [line["digest"]]:
                found[line["name"]] = (line["digest"], line["name"])
        return found

    def of(self, kind: str) -> Iterator[Line]:
        return (line for line in self.lines if line["kind"] == kind)


def lines_of(payload: bytes, spool: str | Path) -> tuple[list[Line], int]:
    """(lines, how many more there are that are torn) of a spool, or of a part of it.

    Torn: no JSON, or not the fields of its kind. A disk that was full leaves that in the middle, a killed process at
    the end; it is left out, and told by whoever asked.
    """
    texts = [text for text in payload.split(b"\n") if text]
    lines = [line for text in texts if (line := _line(text, spool)) is not None]
    return lines, len(texts) - len(lines)


def whole_lines(payload: bytes) -> int:
    """Where the last whole line ends; what comes after may still be written."""
    return payload.rfind(b"\n") + 1


def _line(text: bytes, spool: str | Path) -> Line | None:
    try:
        row = parse_json(text, spool)
    except BadDataError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
        return None
    fields = {"time": int | float, **FIELDS.get(row["kind"], {})}
    return row if all(name in row and isinstance(row[name], kind) for name, kind in fields.items()) else None


def milliseconds(line: Line) -> int:
    return int(line["time"] * 1000)


def below_profile(path: str, profile: str) -> str:
    """`artifacts/<profile>/models/x` -> `models/x`; other paths as they are."""
    return path.removeprefix(f"artifacts/{profile}/")


def batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
