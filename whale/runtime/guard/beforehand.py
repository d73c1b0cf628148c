"""What a run's record says of its code, found out when the run begins, beside its own work.

That is the right moment: a file that somebody edits while a training runs is not the code that trained. And it costs no
time: git, the reading of files and the import of the signing library wait for others most of the time.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from whale.lineage import signing
from whale.lineage.code_state import UNKNOWN, CodeState, code_state


class Beforehand:
    """Starts to look at once, in a thread of its own; `files` (relative to `root`) are the import closure."""

    def __init__(self, root: Path, files: Sequence[Path]):
        pool = ThreadPoolExecutor(1, thread_name_prefix="record")
        here = Path.cwd()
        self._files = pool.submit(_digests, root, files)
        self._code = pool.submit(lambda: code_state(here, files) if root == here else UNKNOWN)
        pool.submit(signing.load_library)
        pool.shutdown(wait=False)

    def code_state(self) -> CodeState:
        """The state of the repository."""
        return self._code.result()

    def code_files(self) -> dict[str, dict[str, object]]:
        """Of each file: "bytes", "sha256", and "md5" as DVC writes it."""
        return self._files.result()


def _digests(root: Path, files: Sequence[Path]) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for path in files:
        payload = (root / path).read_bytes()
        md5 = hashlib.md5(payload, usedforsecurity=False).hexdigest()
        found[path.as_posix()] = {"bytes": len(payload), "md5": md5, "sha256": hashlib.sha256(payload).hexdigest()}
    return found
