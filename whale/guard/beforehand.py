"""What a run's record says of its code and settings, found out when the run begins, beside its own work.

That is the right moment: a file that somebody edits while a training runs is not the one that it began with. And it
costs little time: git, the reading of files and the import of the signing library wait for others most of the time.
What was edited meanwhile is named, too: a worker or an import that comes later has read the new file.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from whale.common.files import sha256_of_file
from whale.guard import machine
from whale.guard.opened_files import SETTINGS, unheard
from whale.lineage import signing
from whale.lineage.code_state import UNKNOWN, CodeState, code_state
from whale.lineage.file_digests import FileDigests


class Beforehand:
    """Starts to look at once, in a thread of its own.

    `code`: the import closure below `root`, path -> {"sha256", ...}, as it was hashed a moment ago; `digests`: what
    proving the inputs has learned, to be saved.
    """

    def __init__(self, root: Path, code: Mapping[str, Mapping[str, object]], digests: FileDigests):
        self._here, self._root = Path.cwd(), root
        self._code = {name: str(facts["sha256"]) for name, facts in code.items()}
        # An executor's thread is waited for at the end of the process. One that dies inside of an import of the signing
        # library takes the process down (SIGABRT).
        self._thread = ThreadPoolExecutor(1, "record")
        self._settings: Future[dict[str, str]] = self._thread.submit(unheard()(_digests), self._here, SETTINGS)
        self._state: Future[CodeState] = self._thread.submit(unheard()(self._look_at_code))
        for warm_up in (digests.save, signing.load_library, machine.installed_packages):
            self._thread.submit(unheard()(warm_up))
        self._thread.shutdown(wait=False)  # nothing else comes

    def code_state(self) -> CodeState:
        """The state of the repository."""
        return self._state.result()

    def settings(self) -> dict[str, str]:
        """sha256 of every settings file (params.yaml, specs, ...), by its path in the working folder."""
        return self._settings.result()

    def changed_code(self) -> list[str]:
        """Code files that are other ones now."""
        return sorted(name for name, digest in self._code.items() if _digest(self._root / name) != digest)

    def changed_settings(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are other files now."""
        known = self.settings()
        return sorted(name for name in names if _digest(self._here / name) != known.get(name))

    def stop(self) -> None:
        """The run failed: the process ends after the look that is under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look_at_code(self) -> CodeState:
        return code_state(self._here, [Path(name) for name in self._code]) if self._root == self._here else UNKNOWN


def _digests(here: Path, names: Iterable[str]) -> dict[str, str]:
    """Of every file of these names, and below them; one that cannot be read, or goes meanwhile, is left out."""
    tops = [here / name for name in names]
    paths = [path for top in tops for path in (sorted(top.rglob("*")) if top.is_dir() else [top])]
    found = {path.relative_to(here).as_posix(): _digest(path) for path in paths}
    return {name: digest for name, digest in found.items() if digest is not None}


def _digest(path: Path) -> str | None:
    with suppress(OSError):
        return sha256_of_file(path) if path.is_file() else None
    return None
