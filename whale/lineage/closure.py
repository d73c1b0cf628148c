"""The import closure of a module: every project file it reaches, also through imports inside functions.

With DVC the import graph is the invalidation graph: a stage's code deps are exactly this closure. Imports under
`if TYPE_CHECKING:` never run and do not count; an empty `__init__.py` cannot change a result and is left out.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path


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


def _walk_executed(node: ast.AST):
    """Like ast.walk, without the bodies of `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield from _walk_executed(other)
        else:
            yield from _walk_executed(child)


def _files_of(root: Path, module: str) -> list[Path]:
    """The files that `import module` runs: every package on the way, then the module."""
    parts, files = module.split("."), []
    for end in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:end])
        files += [path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()]
    return files
