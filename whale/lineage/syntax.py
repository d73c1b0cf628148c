"""Code as the interpreter reads it: a syntax tree without comments, docstrings and layout.

Two files with equal trees compute the same; what could tell them apart (`__doc__`, line numbers) decides no byte of an
output. Any other difference counts, a renamed local variable too: this is a proof, not an opinion.
"""

import ast
import hashlib
from collections.abc import Iterator
from typing import Any

MODULE = "the module itself"
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def syntax_digest(tree: ast.Module) -> str:
    """sha256 over the tree of one file; `tree` loses its docstrings."""
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()


def digest_of_source(source: bytes) -> str:
    """`syntax_digest` of a file's bytes; of what is no Python, sha256 of the bytes."""
    try:
        return syntax_digest(ast.parse(source))
    except (SyntaxError, ValueError):
        return hashlib.sha256(source).hexdigest()


def changed_definitions(before: bytes, after: bytes) -> list[str]:
    """Names of the functions and classes (dotted), and MODULE for statements outside of them, that differ.

    An order that differs counts for what holds the statements.
    """
    one, other = (_named(_without_docstrings(ast.parse(each))) for each in (before, after))
    names = [*one, *(name for name in other if name not in one)]
    return [name for name in names if one.get(name) != other.get(name)]


def _named(tree: ast.Module) -> dict[str, str]:
    """Name -> digest; of several with one name (a property and its setter) the later ones are numbered."""
    found: dict[str, str] = {}
    for name, digest in _definitions(tree):
        number = 1
        while (unique := name if number == 1 else f"{name} ({number})") in found:
            number += 1
        found[unique] = digest
    return found


def _definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(name, digest of its own statements) of each definition: what stands inside of an inner one is that one's."""
    inner: list[tuple[str, Definition]] = []
    shell: list[str] = []
    for node in getattr(tree, "body", []):
        if isinstance(node, Definition):
            inner.append((f"{prefix}{node.name}", node))
            shell.append(f"{type(node).__name__} {node.name}")
        else:
            shell.append(ast.dump(node))
    head = [ast.dump(each) for field, value in ast.iter_fields(tree) if field != "body" for each in _nodes(value)]
    yield prefix.rstrip(".") or MODULE, hashlib.sha256("\n".join([*head, *shell]).encode()).hexdigest()
    for name, node in inner:
        yield from _definitions(node, f"{name}.")


def _nodes(value: Any) -> Iterator[ast.AST]:
    """Decorators, arguments, bases, and constants of a definition's head."""
    for each in value if isinstance(value, list) else [value]:
        yield each if isinstance(each, ast.AST) else ast.Constant(each)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, Definition | ast.Module) and node.body and _is_text(node.body[0]):
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
