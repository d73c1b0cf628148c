"""Which files of the project a stage opened and which modules it imported, against what it declares (T10).

An audit hook sees every `open` of this process; it cannot be removed again, so it is installed once, by the processes
that are stages. It does not see files opened inside C libraries (pyarrow, safetensors, cv2): our code opens in Python
and hands over buffers. Modules are read off `sys.modules` at the end.
"""

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SETTINGS = ("params.yaml", "local.yaml", "data_specs", "profiles", "constraints.txt", "pyproject.toml", "dvc.yaml")
STATE = (".whale", "work", "lineage", "mlruns", "mlflow.db", ".git", ".dvc", ".venv", "dvc.lock")
INSTALLED = ".egg-info"  # what pip wrote of this package: entry points, read by every search for plugins
CODE_SUFFIXES = (".py", ".pyc", ".so")

_opened: set[str] = set()
_is_installed = False


def install() -> None:
    """Start to listen; a second call does nothing."""
    global _is_installed
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes) and _reads(arguments[1], arguments[2]):
        name = os.fsdecode(arguments[0])
        # A relative name that is not here is relative to an open folder (shutil.rmtree), or nothing will be read.
        if os.path.isabs(name) or os.path.lexists(name):
            _opened.add(name)


def _reads(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return "r" in mode
    return not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_CREAT))


def report(
    root: Path, code_root: Path, closure: Iterable[Path], inputs: Iterable[Path], outputs: Iterable[Path]
) -> dict[str, Any]:
    """{"listened", "settings", "undeclared_files", "undeclared_modules"}; paths relative to `root`.

    Only files below `root` count: what lies elsewhere (libraries, fonts, caches) is the environment's, which is
    recorded by package. So is what Python was installed to and the folder of temporary files, wherever they lie.
    """
    allowed = [Path(os.path.abspath(path)) for path in (*inputs, *outputs)]
    temporary = [path.parent for path in allowed]
    found = {
        path for name in list(_opened) if (path := _below(root, name)) is not None and path.suffix not in CODE_SUFFIXES
    }
    settings, undeclared = set(), set()
    others = _folders_of_the_environment(root)
    for path in found:
        first = path.parts[0] if path.parts else ""
        if first in SETTINGS:
            settings.add(path.as_posix())
        elif first in STATE or first.endswith(INSTALLED) or (root / path).is_dir() or others & {*path.parents}:
            continue
        elif not _is_declared(root / path, allowed, temporary):
            undeclared.add(path.as_posix())
    return {
        "listened": _is_installed,
        "settings": sorted(settings),
        "undeclared_files": sorted(undeclared),
        "undeclared_modules": undeclared_modules(code_root, closure) if _is_installed else [],
    }


def undeclared_modules(code_root: Path, closure: Iterable[Path], modules: Mapping[str, Any] | None = None) -> list[str]:
    """Imported files of the project that are not in the stage's import closure; an empty __init__.py is nothing."""
    declared = {path.as_posix() for path in closure}
    others = _folders_of_the_environment(code_root)
    found = set()
    for module in list((sys.modules if modules is None else modules).values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not os.path.isabs(file):  # torch has modules whose __file__ is no file
            continue
        path = _below(code_root, file) if file.endswith(".py") else None
        if path is None or path.parts[0] in (".venv", "tests") or others & {*path.parents}:
            continue
        if path.as_posix() in declared:
            continue
        if path.name != "__init__.py" or (code_root / path).stat().st_size:
            found.add(path.as_posix())
    return sorted(found)


def _folders_of_the_environment(root: Path) -> set[Path]:
    """Those below `root`: a virtual environment of any name, TMPDIR."""
    found = {_below(root, name) for name in (sys.prefix, sys.exec_prefix, tempfile.gettempdir())}
    return {path for path in found if path is not None}


def _below(root: Path, name: str) -> Path | None:
    full = Path(os.path.abspath(name))
    return full.relative_to(root) if full.is_relative_to(root) and full != root else None


def _is_declared(path: Path, allowed: list[Path], temporary: list[Path]) -> bool:
    """An input or output, or something below one; also what a guard keeps under a hidden name beside its output."""
    if any(path == each or each in path.parents for each in allowed):
        return True
    return any(folder in path.parents and path.relative_to(folder).parts[0].startswith(".") for folder in temporary)
