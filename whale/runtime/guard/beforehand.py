"""What the record of a run needs that its work does not change, found out beside that work: git, the signing library.

Also the right moment: a file that somebody edits while a training runs is not the code that trained.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from whale.lineage import signing
from whale.lineage.code_state import UNKNOWN, CodeState, code_state


class Beforehand:
    """Starts to look at once, in a thread of its own."""

    def __init__(self, code_root: Path, closure: Sequence[Path]):
        pool = ThreadPoolExecutor(1, thread_name_prefix="record")
        here = Path.cwd()
        self._code = pool.submit(lambda: code_state(here, closure) if code_root == here else UNKNOWN)
        pool.submit(signing.load_library)
        pool.shutdown(wait=False)

    def code_state(self) -> CodeState:
        """The state of the repository when the run began."""
        return self._code.result()
