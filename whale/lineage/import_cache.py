"""What each file of the project imports, remembered as long as its bytes stay the same.

Parsing all of them anew at each start was half of what a short stage paid for its record.
"""

import hashlib
import json
from pathlib import Path

from whale.files import write_atomically
from whale.lineage import closure


class ImportCache:
    """`closure.imported_modules` from memory, by (path, sha256 of the bytes, sha256 of the code that reads imports).

    The bytes are read each time, so no edit is missed; losing the cache's file loses nothing but time.
    """

    def __init__(self, path: Path):
        self.path = path
        self._reader = hashlib.sha256(Path(closure.__file__).read_bytes()).hexdigest()
        self._known = _read(path, self._reader)
        self._is_changed = False

    def __call__(self, path: Path, root: Path) -> list[str]:
        """Dotted names that `path` may import, sorted."""
        source = path.read_bytes()
        name, digest = path.relative_to(root).as_posix(), hashlib.sha256(source).hexdigest()
        known = self._known.get(name)
        if known is None or known[0] != digest:
            known = self._known[name] = [digest, *sorted(closure.modules_in(source, path, root))]
            self._is_changed = True
        return known[1:]

    def save(self) -> None:
        """Write the cache, together with what other processes saved meanwhile."""
        if self._is_changed:
            rows = {"reader": self._reader, "files": _read(self.path, self._reader) | self._known}
            write_atomically(self.path, json.dumps(rows, sort_keys=True).encode(), lasts=False)
            self._is_changed = False


def _read(path: Path, reader: str) -> dict[str, list[str]]:
    """Empty where the file is absent, torn, or of another state of closure.py."""
    try:
        rows = json.loads(path.read_bytes())
        files = rows["files"] if rows["reader"] == reader else {}
        return {str(name): [str(each) for each in row] for name, row in files.items() if row}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
