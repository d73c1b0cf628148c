"""What a run's record says of its code and settings, found out when the run begins, beside its own work.

That is the right moment: a file that somebody edits while a training runs is not the one that it began with. And it
costs little time: git, the reading of files and the import of the signing library wait for others most of the time.
What was edited meanwhile is said, too: a worker or an import that comes later has read the new file.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from whale.common.files import sha256_of_file
from whale.guard import machine
from whale.guard.opened_files import SETTINGS, unheard
from whale.lineage import signing
from whale.lineage.code_state import UNKNOWN, CodeState, code_state
from whale.lineage.file_digests import FileDigests

T = TypeVar("T")
Seen = tuple[int, int, int]


class Beforehand:
    """Starts to look at once, in a thread of its own.

    `code`: the import closure below `root`, path -> {"sha256", ...}, as it was hashed a moment ago; `digests`: what
    proving the inputs has learned, to be saved.
    """

    def __init__(self, root: Path, code: Mapping[str, Mapping[str, object]], digests: FileDigests):
        here = Path.cwd()
        self._here, self._root = here, root
        self._code = {name: (str(facts["sha256"]), _seen(root / name)) for name, facts in code.items()}
        self._tasks: list[Callable[[], None]] = []
        self._settings = self._later(lambda: _digests(here, SETTINGS))
        files = [Path(name) for name in code]
        self._state = self._later(lambda: code_state(here, files) if root == here else UNKNOWN)
        self._later(digests.save)
        self._later(signing.load_library)
        self._later(machine.installed_packages)  # fills its cache
        self._is_needed = True
        # No daemon: a thread that dies inside of an import of the signing library takes the process down (SIGABRT).
        threading.Thread(target=self._work, name="record").start()

    def code_state(self) -> CodeState:
        """The state of the repository."""
        return self._state.result()

    def settings(self) -> dict[str, str]:
        """sha256 of every settings file (params.yaml, specs, ...), by its path in the working folder."""
        return {name: digest for name, (digest, _) in self._settings.result().items()}

    def changed_code(self) -> list[str]:
        """Code files that are other ones now."""
        return _changed(self._root, self._code)

    def changed_settings(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are other files now."""
        known = self._settings.result()
        there = [name for name in names if name in known or (self._here / name).is_file()]
        return _changed(self._here, {name: known.get(name, ("", None)) for name in there})

    def stop(self) -> None:
        """The run failed: the process ends after the look that is under way."""
        self._is_needed = False

    def _later(self, task: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(task())
            except BaseException as error:  # raised where the result is asked for
                future.set_exception(error)

        self._tasks.append(work)
        return future

    def _work(self) -> None:
        with unheard():
            for task in self._tasks:
                if self._is_needed:
                    task()


def _digests(here: Path, names: Iterable[str]) -> dict[str, tuple[str, Seen | None]]:
    """Of every file of these names, and below them; one that cannot be read, or goes meanwhile, is left out."""
    found = {}
    for top in (here / name for name in names):
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            with suppress(OSError):
                if path.is_file():
                    seen = _seen(path)
                    found[path.relative_to(here).as_posix()] = (sha256_of_file(path), seen)
    return found


def _changed(root: Path, known: Mapping[str, tuple[str, Seen | None]]) -> list[str]:
    """Names whose bytes differ from `known`; of a file that looks untouched nothing is read."""
    others = [name for name, (_, seen) in known.items() if seen is None or seen != _seen(root / name)]
    return sorted(
        name for name in others if not (root / name).is_file() or sha256_of_file(root / name) != known[name][0]
    )


def _seen(path: Path) -> Seen | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
