"""One spool file as it was read: the lines of a run, and what they say together."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.files import is_alive
from whale.common.stage_args import node_name

Line = dict[str, Any]
MANIFEST = "MANIFEST.json"
MAX_PARAMS, MAX_METRICS = 100, 1000  # per log_batch, limits of MLflow
MAX_NAME, MAX_TEXT = 250, 6000


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
            if all(path.endswith(MANIFEST) for path in holders) and holders:
                found |= {path.removesuffix(f"/{MANIFEST}"): (digest, line["name"]) for path, digest in holders.items()}
            elif list(holders.values()) != [line["digest"]]:
                found[line["name"]] = (line["digest"], line["name"])
        return found

    def of(self, kind: str) -> Iterator[Line]:
        return (line for line in self.lines if line["kind"] == kind)


def read_lines(spool: Path, offset: int) -> tuple[list[Line], int]:
    """Whole lines from `offset`, and where they end; a torn last line is left for the next time."""
    payload = spool.read_bytes()[offset:]
    whole = payload[: payload.rfind(b"\n") + 1]
    lines = []
    for text in whole.splitlines():
        with suppress(ValueError):
            lines.append(json.loads(text))
    return lines, offset + len(whole)


def milliseconds(line: Line) -> int:
    return int(line["time"] * 1000)


def below_profile(path: str, profile: str) -> str:
    """`artifacts/<profile>/models/x` -> `models/x`; other paths as they are."""
    return path.removeprefix(f"artifacts/{profile}/")


def batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
