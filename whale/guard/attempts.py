"""Tries of a stage that did not end well wait here and enter the statement of the one that does.

One file per derivation, `.whale/attempts/<stage>-<derivation>.jsonl`: a line when a try starts, a line when it ends. A
start without an end is a try that was killed.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError
from whale.common.json_files import parse_json
from whale.runtime.workers.process.environment import STATE_DIR


class Attempts:
    """Never raises for what lies in the file: a torn line of a killed process is passed over."""

    def __init__(self, name: str, derivation: str, state_dir: Path = STATE_DIR):
        self.path = state_dir / "attempts" / f"{name}-{derivation[:16]}.jsonl"

    def start(self) -> None:
        """Note that a try begins."""
        self._append({"started": _now()})

    def end(self, how: str) -> None:
        """Note how a try ended that did not end well."""
        self._append({"ended": _now(), "how": how})

    def earlier(self) -> list[dict[str, Any]]:
        """The tries before the one that runs now: {"started", "ended", "how"}, `killed` where no end was noted."""
        tries: list[dict[str, Any]] = []
        for row in self._rows():
            if "started" in row:
                tries.append({"started": row["started"], "ended": None, "how": "killed"})
            elif tries:
                tries[-1] |= {"ended": row["ended"], "how": row["how"]}
        return tries[:-1]

    def clear(self) -> None:
        """The statement holds them now."""
        self.path.unlink(missing_ok=True)

    def _append(self, row: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="ascii") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for line in self.path.read_text(encoding="ascii", errors="replace").splitlines():
            try:
                row = parse_json(line, self.path)
            except BadDataError:
                continue
            if isinstance(row, dict) and ("started" in row or {"ended", "how"} <= set(row)):
                rows.append(row)
        return rows


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
