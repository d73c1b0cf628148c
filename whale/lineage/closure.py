"""The import closure of a module: every project file it reaches, also through imports inside functions.

A folder `templates` beside a reached module is reached with it, file by file: nobody imports a page's text and style.
With DVC the import graph is the invalidation graph: a stage's code deps are exactly this closure. Imports under
`if TYPE_CHECKING:` never run and do not count. An `__init__.py` that is empty, or holds nothing but names that are
fetched when somebody asks for them (`__getattr__`), cannot change a result and is left out.
"""

import ast
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Literal

from whale.lineage.code_memory import CodeMemory
from whale.lineage.syntax import digest_of_source

TEMPLATES = "templates"


def import_closure(root: Path, entry: Path, memory: CodeMemory | None = None) -> list[Path]:
    """Files below `root` (relative, sorted, `entry` included) that importing `entry` can reach."""
    memory = memory or CodeMemory()
    seen: set[Path] = set()
    modules: set[str] = set()
    names = cache(_names)  # one look into each folder: most imported names are no modules
    own = {name.removesuffix(".py") for name in names(str(root))}
    waiting = [entry if entry.is_absolute() else root / entry]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if path.suffix == ".py" and (path.name != "__init__.py" or not is_inert(path)):
            if TEMPLATES in names(str(path.parent)):
                waiting += [each for each in (path.parent / TEMPLATES).rglob("*") if each.is_file()]
            imported = {name for name in _imports(path, root, memory) if name.partition(".")[0] in own} - modules
            found = {name for module in imported for name in _with_packages(module)}
            waiting += [file for name in sorted(found - modules) for file in _files_of(root, name, names)]
            modules |= found
    return sorted(path.relative_to(root) for path in seen if path.name != "__init__.py" or not is_inert(path))


def is_inert(path: Path) -> bool:
    """Whether importing this file runs nothing: text, names to be fetched on demand, imports for a type checker."""
    if path.stat().st_size == 0:
        return True
    return all(_is_on_demand(node) for node in ast.parse(path.read_bytes(), filename=str(path)).body)


def _is_on_demand(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == "__getattr__"
    if isinstance(node, ast.ImportFrom):
        return node.module == "typing"
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def code_files(root: Path, files: Iterable[Path], memory: CodeMemory | None = None) -> dict[str, dict[str, object]]:
    """Of each of `files` (relative to `root`): "bytes", "sha256", "md5" as DVC writes it, and "syntax" (syntax.py).

    Of what is no Python every byte is syntax.
    """
    found: dict[str, dict[str, object]] = {}
    memory = memory or CodeMemory()
    for path in files:
        payload = (root / path).read_bytes()
        md5, sha256 = hashlib.md5(payload, usedforsecurity=False).hexdigest(), hashlib.sha256(payload).hexdigest()
        found[path.as_posix()] = {
            "bytes": len(payload),
            "md5": md5,
            "sha256": sha256,
            "syntax": memory.recall("syntax", path.as_posix(), payload, partial(digest_of_source, payload))
            if path.suffix == ".py"
            else sha256,
        }
    return found


def closure_digest(code: Mapping[str, Mapping[str, object]], of: Literal["sha256", "syntax"] = "sha256") -> str:
    """sha256 over (path, `of` each file) of `code_files`, in the order of `import_closure`.

    A rename or an edit changes it, an edit elsewhere does not; that of the syntax is left alone by comments.
    """
    lines = [f"{facts[of]}  {name}\n" for name, facts in code.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _imports(path: Path, root: Path, memory: CodeMemory) -> list[str]:
    payload, name = path.read_bytes(), path.relative_to(root).as_posix()
    return memory.recall("imports", name, payload, lambda: sorted(imported_modules(payload, path, root)))


def imported_modules(source: bytes, path: Path, root: Path) -> set[str]:
    """Dotted names that `source`, the text of the file `path`, may import.

    `from a import b` gives both a and a.b, since b may be a module.
    """
    names: set[str] = set()
    for node in _executed_imports(ast.parse(source, filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        else:
            base = node.module or ""
            if node.level:
                package = path.relative_to(root).parts[: -node.level]
                base = ".".join([*package, base]) if base else ".".join(package)
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def _executed_imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements, also nested ones, without the bodies of `if TYPE_CHECKING:`; expressions hold none."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        else:
            for block in ("body", "orelse", "finalbody", "handlers", "cases"):
                waiting += getattr(node, block, [])


def _with_packages(module: str) -> list[str]:
    """`a.b.c` -> a, a.b, a.b.c: what `import a.b.c` runs."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _files_of(root: Path, module: str, names: Callable[[str], frozenset[str]]) -> list[Path]:
    """The file of one module or package, if it is the project's."""
    *packages, last = module.split(".")
    folder = os.path.join(root, *packages)
    found = []
    if last in names(folder) and "__init__.py" in names(os.path.join(folder, last)):
        found.append(os.path.join(folder, last, "__init__.py"))
    if f"{last}.py" in names(folder):
        found.append(os.path.join(folder, f"{last}.py"))
    return [Path(file) for file in found if os.path.isfile(file)]


def _names(folder: str) -> frozenset[str]:
    """What lies in a folder; nothing where there is none."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()
