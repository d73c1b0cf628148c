"""The import closure of a module: every project file it reaches, also through imports inside functions.

With DVC the import graph is the invalidation graph: a stage's code deps are exactly this closure. Imports under
`if TYPE_CHECKING:` never run and do not count; an empty `__init__.py` cannot change a result and is left out.
"""

import ast
import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

STATEMENT_FIELDS = ("body", "orelse", "handlers", "finalbody", "cases")  # where statements hold others


def import_closure(root: Path, entry: Path) -> list[Path]:
    """Files below `root` (relative, sorted, `entry` included) that importing `entry` can reach."""
    seen: set[Path] = set()
    waiting = [entry if entry.is_absolute() else root / entry]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            for module in imported_modules(path, root):
                waiting += _files_of(root, module)
    return sorted(path.relative_to(root) for path in seen if path.stat().st_size > 0 or path.name != "__init__.py")


def closure_digest(root: Path, files: list[Path]) -> str:
    """sha256 over sorted (path, sha256 of the bytes); a rename or an edit changes it, a comment elsewhere does not."""
    lines = [f"{hashlib.sha256((root / path).read_bytes()).hexdigest()}  {path.as_posix()}\n" for path in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@cache
def imported_modules(path: Path, root: Path) -> frozenset[str]:
    """Dotted names that `path` may import; `from a import b` gives both a and a.b, since b may be a module."""
    names: set[str] = set()
    for node in _walk_executed(ast.parse(path.read_bytes(), filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(root).parts[: -node.level]
                base = ".".join([*package, base]) if base else ".".join(package)
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(names)


def _walk_executed(node: ast.AST) -> Iterator[ast.stmt]:
    """Every statement below `node` but the bodies of `if TYPE_CHECKING:`. An expression imports nothing."""
    for field in STATEMENT_FIELDS:
        for child in getattr(node, field, ()):
            if isinstance(child, ast.stmt):
                yield child
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                yield from _walk_executed(ast.Module(child.orelse, []))
            else:
                yield from _walk_executed(child)


@cache
def _files_of(root: Path, module: str) -> tuple[Path, ...]:
    """The files that `import module` runs: every package on the way, then the module."""
    files: list[str] = []
    base = str(root)
    for part in module.split("."):
        base = os.path.join(base, part)
        files += [path for path in (os.path.join(base, "__init__.py"), f"{base}.py") if os.path.isfile(path)]
    return tuple(Path(path) for path in files)
