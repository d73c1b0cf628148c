"""Which files of the project a stage opened and which modules it imported, against what it declares (T10).

An audit hook sees every `open` of its process; it cannot be removed again, so it is installed once, by processes that
are stages and by those that work for one (training, Beam, Ray), which write down each name when they first see it: a
worker may be killed at any time. The hook does not see files opened inside C libraries (pyarrow, safetensors, cv2): our
code opens in Python and hands over buffers. Modules of a stage are read off `sys.modules` at the end, those of a worker
when it starts to listen and, from then on, as files that are opened.
"""

import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SETTINGS = ("params.yaml", "local.yaml", "data_specs", "profiles", "constraints.txt", "pyproject.toml", "dvc.yaml")
STATE = (".whale", "work", "lineage", "mlruns", "mlflow.db", ".git", ".dvc", ".venv", "dvc.lock")
INSTALLED = ".egg-info"  # what pip wrote of this package: entry points, read by every search for plugins
CODE_SUFFIXES = (".py", ".pyc", ".so")

WORKERS = "WHALE_OPENED_FILES"  # the variable that tells a worker where to write

_opened: set[str] = set()
_unheard: set[int] = set()  # threads
_is_installed = False
_log: int | None = None  # a worker's file


def install() -> None:
    """Start to listen; a second call does nothing."""
    global _is_installed
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_hook)


def unheard() -> None:
    """What the calling thread opens from now on is the guard's own reading."""
    _unheard.add(threading.get_ident())


def await_workers(folder: Path) -> None:
    """Processes that are started from now on and call `listen_in_worker` write into `folder`, emptied here.

    Nothing happens where the stage itself does not listen.
    """
    if not _is_installed:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[WORKERS] = str(folder.absolute())


def forget_workers() -> None:
    """Remove what workers wrote; it stands in the record of the run."""
    if folder := os.environ.pop(WORKERS, ""):
        shutil.rmtree(folder, ignore_errors=True)


def listen_in_worker() -> None:
    """Start to listen in a process that works for a stage; nothing happens in the stage itself, or outside of one."""
    global _log
    folder = os.environ.get(WORKERS)
    if _is_installed or not folder or not os.path.isdir(folder):
        return
    name = f"{socket.gethostname()}-{os.getpid()}.txt"
    _log = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and os.path.isabs(file):
            _write_down(file)
    install()


def _write_down(name: str) -> None:
    if _log is not None:
        os.write(_log, os.fsencode(os.path.abspath(name)) + b"\0")


def _of_workers() -> tuple[set[str], int]:
    """(names that workers opened, how many workers listened)."""
    folder = Path(os.environ.get(WORKERS, ""))
    logs = sorted(folder.glob("*.txt")) if os.environ.get(WORKERS) else []
    return {os.fsdecode(name) for log in logs for name in log.read_bytes().split(b"\0") if name}, len(logs)


def _hook(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes) and _reads(arguments[1], arguments[2]):
        name = os.fsdecode(arguments[0])
        # A relative name that is not here is relative to an open folder (shutil.rmtree), or nothing will be read.
        is_new = name not in _opened and threading.get_ident() not in _unheard
        if is_new and (os.path.isabs(name) or os.path.lexists(name)):
            _opened.add(name)
            _write_down(name)


def _reads(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return "r" in mode
    return not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_CREAT))


def report(
    root: Path, code_root: Path, closure: Iterable[Path], inputs: Iterable[Path], outputs: Iterable[Path]
) -> dict[str, Any]:
    """{"listened", "workers", "settings", "undeclared_files", "undeclared_modules"}; paths relative to `root`.

    Only files below `root` count: what lies elsewhere (libraries, fonts, caches) is the environment's, which is
    recorded by package. So is what Python was installed to and the folder of temporary files, wherever they lie.
    """
    allowed = [os.path.abspath(path) for path in (*inputs, *outputs)]
    theirs, num_workers = _of_workers()
    found = {
        path
        for name in _opened | theirs
        if (path := _below(root, name)) is not None and path.suffix not in CODE_SUFFIXES
    }
    settings, undeclared = set(), set()
    others = _folders_of_the_environment(root)
    for path in found:
        first = path.parts[0] if path.parts else ""
        if first in SETTINGS:
            settings.add(path.as_posix())
        elif first in STATE or first.endswith(INSTALLED) or (root / path).is_dir() or others & {*path.parents}:
            continue
        elif not _is_declared(os.path.join(root, path), allowed):
            undeclared.add(path.as_posix())
    return {
        "listened": _is_installed,
        "workers": num_workers,
        "settings": sorted(settings),
        "undeclared_files": sorted(undeclared),
        "undeclared_modules": undeclared_modules(code_root, closure, files=theirs) if _is_installed else [],
    }


def undeclared_modules(
    code_root: Path, closure: Iterable[Path], modules: Mapping[str, Any] | None = None, files: Iterable[str] = ()
) -> list[str]:
    """Imported files of the project that are not in the stage's import closure; an empty __init__.py is nothing.

    `modules`: those of this process by default; `files`: what workers opened, code among it.
    """
    declared = {path.as_posix() for path in closure}
    others = _folders_of_the_environment(code_root)
    own = [getattr(module, "__file__", None) for module in list((sys.modules if modules is None else modules).values())]
    found = set()
    for file in [*own, *map(_source, files)]:
        if not isinstance(file, str) or not os.path.isabs(file):  # torch has modules whose __file__ is no file
            continue
        path = _below(code_root, file) if file.endswith(".py") else None
        if path is None or path.parts[0] in (".venv", "tests") or others & {*path.parents}:
            continue
        if path.as_posix() in declared:
            continue
        if (code_root / path).is_file() and (path.name != "__init__.py" or (code_root / path).stat().st_size):
            found.add(path.as_posix())
    return sorted(found)


def _source(file: str) -> str:
    """`a/__pycache__/b.cpython-311.pyc` -> `a/b.py`: an import opens either."""
    if not file.endswith(".pyc"):
        return file
    folder, name = os.path.split(file)
    if os.path.basename(folder) == "__pycache__":
        return os.path.join(os.path.dirname(folder), f"{name.split('.')[0]}.py")
    return file


def _folders_of_the_environment(root: Path) -> set[Path]:
    """Those below `root`: a virtual environment of any name, TMPDIR."""
    found = {_below(root, name) for name in (sys.prefix, sys.exec_prefix, tempfile.gettempdir())}
    return {path for path in found if path is not None}


def _below(root: Path, name: str) -> Path | None:
    """Relative to `root`; text first, because most of some thousand names lie elsewhere and a Path costs most."""
    start = os.path.join(root, "")
    if name.startswith("/") and not name.startswith(start) and "/." not in name and "//" not in name:
        return None  # in its plain form already
    full = os.path.abspath(name)
    return Path(full[len(start) :]) if full.startswith(start) else None


def _is_declared(path: str, allowed: list[str]) -> bool:
    """An input or output, or something below one; also what a guard keeps under a hidden name beside its output."""
    beside = (os.path.join(os.path.dirname(each), ".") for each in allowed)
    return path in allowed or path.startswith((*(os.path.join(each, "") for each in allowed), *beside))
