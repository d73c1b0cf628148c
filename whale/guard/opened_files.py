"""Which files of the project a stage opened and which modules it imported, against what it declares.

whale/runtime/workers/process/worker.py hears them. Modules of a stage are read off `sys.modules` at the end, those of a
worker when it starts to listen and, from then on, as files that are opened.
"""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whale.lineage.closure import is_inert
from whale.runtime.workers.process import worker
from whale.runtime.workers.process.worker import WORKERS

SETTINGS = ("params.yaml", "local.yaml", "data_specs", "profiles", "constraints.txt", "pyproject.toml", "dvc.yaml")
STATE = (".whale", "work", "lineage", "mlruns", "mlflow.db", ".git", ".dvc", ".venv", "dvc.lock")
INSTALLED = ".egg-info"  # what pip wrote of this package: entry points, read by every search for plugins
CODE_SUFFIXES = (".py", ".pyc", ".so")


@contextmanager
def unheard() -> Iterator[None]:
    """What the calling thread opens inside is the guard's own reading."""
    thread = threading.get_ident()
    worker.unheard_threads.add(thread)
    try:
        yield
    finally:
        worker.unheard_threads.discard(thread)  # a later thread may get the same number


def await_workers(folder: Path) -> None:
    """Processes that are started from now on and call `listen_in_worker` write into `folder`, emptied here.

    Nothing happens where the stage itself does not listen.
    """
    if not worker.is_listening():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[WORKERS] = str(folder.absolute())


def forget_workers() -> None:
    """Remove what workers wrote; it stands in the record of the run."""
    if folder := os.environ.pop(WORKERS, ""):
        shutil.rmtree(folder, ignore_errors=True)


def _of_workers() -> tuple[set[str], int]:
    """(names that workers opened, how many workers listened)."""
    folder = Path(os.environ.get(WORKERS, ""))
    logs = sorted(folder.glob("*.txt")) if os.environ.get(WORKERS) else []
    return {os.fsdecode(name) for log in logs for name in log.read_bytes().split(b"\0") if name}, len(logs)


def report(
    root: Path, code_root: Path, closure: Iterable[Path], inputs: Iterable[Path], outputs: Iterable[Path]
) -> dict[str, Any]:
    """{"listened", "workers", "settings", "undeclared_files", "undeclared_modules"}; paths relative to `root`.

    Only files below `root` count: what lies elsewhere (libraries, fonts, caches) is the environment's, which is
    recorded by package. So is what Python was installed to and the folder of temporary files, wherever they lie.
    """
    closure = list(closure)
    declared, beginnings = _declared((*inputs, *outputs))
    declared |= {os.path.join(os.path.abspath(code_root), path) for path in closure}  # templates are read as files
    theirs, num_workers = _of_workers()
    settings, undeclared = set(), set()
    for name in _names_below(root, worker.opened | theirs):
        first = name.split("/", 1)[0]
        if name.endswith(CODE_SUFFIXES) or first in STATE or first.endswith(INSTALLED):
            continue
        if first in SETTINGS:
            settings.add(name)
            continue
        full = os.path.join(root, name)
        if full not in declared and not full.startswith(beginnings) and not os.path.isdir(full):
            undeclared.add(name)
    return {
        "listened": worker.is_listening(),
        "workers": num_workers,
        "settings": sorted(settings),
        "undeclared_files": sorted(undeclared),
        "undeclared_modules": undeclared_modules(code_root, closure, theirs) if worker.is_listening() else [],
    }


def undeclared_modules(code_root: Path, closure: Iterable[Path], files: Iterable[str]) -> list[str]:
    """Imported files of the project that are not in the stage's import closure; one that runs nothing is none.

    `files`: what workers opened, code among it.
    """
    declared = {path.as_posix() for path in closure}
    own = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    # torch has modules whose __file__ is no file
    named = [file for file in [*own, *map(_source, files)] if isinstance(file, str) and os.path.isabs(file)]
    found = set()
    for name in _names_below(code_root, named):
        if not name.endswith(".py") or name.startswith((".venv/", "tests/")) or name in declared:
            continue
        full = os.path.join(code_root, name)
        if os.path.isfile(full) and (os.path.basename(full) != "__init__.py" or not is_inert(Path(full))):
            found.add(name)
    return sorted(found)


def _source(file: str) -> str:
    """`a/__pycache__/b.cpython-311.pyc` -> `a/b.py`: an import opens either."""
    if not file.endswith(".pyc"):
        return file
    folder, name = os.path.split(file)
    if os.path.basename(folder) == "__pycache__":
        return os.path.join(os.path.dirname(folder), f"{name.split('.')[0]}.py")
    return file


def _names_below(root: Path, names: Iterable[str]) -> Iterator[str]:
    """Those of `names` that lie below `root`, relative to it, without what belongs to the environment.

    That is a virtual environment of any name, and TMPDIR. All as text: of some thousand names a Path costs most.
    """
    start = os.path.join(root, "")
    environment = tuple(
        os.path.join(path, "")
        for path in map(os.path.abspath, (sys.prefix, sys.exec_prefix, tempfile.gettempdir()))
        if path.startswith(start)
    )
    for name in names:
        is_plain = name.startswith("/") and "/.." not in name and "/./" not in name and "//" not in name
        full = name if is_plain else os.path.abspath(name)
        if full.startswith(start) and not full.startswith(environment):
            yield full[len(start) :]


def _declared(paths: Iterable[Path]) -> tuple[set[str], tuple[str, ...]]:
    """Names of inputs and outputs, and how others begin that are declared with them.

    Those are below one, or what a guard keeps under a hidden name beside its output.
    """
    names = {os.path.abspath(path) for path in paths}
    return names, tuple({start for name in names for start in (f"{name}/", f"{os.path.dirname(name)}/.")})
