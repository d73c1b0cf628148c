"""What each code file imports, and the digest of its syntax, remembered as long as its bytes stay the same.

Parsing a hundred files at each start was half a second of every stage. It is a memory of the guard's alone: `verify`
and `whale accept` parse what lies there.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from whale.lineage import syntax
from whale.lineage.own_cache import recall, remember

T = TypeVar("T")


class CodeMemory:
    """Answers by (question, path, sha256 of the bytes); losing the file of it loses nothing but time."""

    def __init__(self, path: Path | None = None):
        self.path = path
        own = [Path(__file__).with_name("closure.py"), Path(syntax.__file__)]
        self._reader = hashlib.sha256(b"".join(each.read_bytes() for each in own)).hexdigest()
        self._known: dict[str, Any] = self._read()
        self._is_changed = False

    def recall(self, question: str, name: str, payload: bytes, answer: Callable[[], T]) -> T:
        """`answer()`, or what it was for these bytes; it must be plain data."""
        key, sha256 = f"{question} {name}", hashlib.sha256(payload).hexdigest()
        known = self._known.get(key)
        if not isinstance(known, list) or len(known) != 2 or known[0] != sha256:
            known = self._known[key] = [sha256, answer()]
            self._is_changed = True
        return known[1]

    def save(self) -> None:
        """Write the memory, together with what other processes saved meanwhile."""
        if self.path is not None and self._is_changed:
            remember(self.path, {"reader": self._reader, "known": self._read() | self._known})
            self._is_changed = False

    def _read(self) -> dict[str, Any]:
        """Empty where the file is absent, torn, or of another state of the code that reads."""
        rows = recall(self.path)
        return rows["known"] if rows.get("reader") == self._reader and isinstance(rows.get("known"), dict) else {}
