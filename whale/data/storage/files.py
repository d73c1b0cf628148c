"""JSON and copies in the one way files are written, and names that came from a file."""

import re
import shutil
from pathlib import Path, PurePosixPath

from whale.common.errors import BadDataError
from whale.common.files import CHUNK_BYTES, atomic_file, leads_out, write_atomically
from whale.common.json_files import canonical_json
from whale.common.limits import PATH_CHARACTERS, PATH_PART_BYTES

RELATIVE_PATH = re.compile(r"[A-Za-z0-9._/-]+")


def write_listing(path: Path, value: object) -> None:
    """As `write_json`, but each entry of the two outer levels on a line of its own, to be read and compared."""
    write_atomically(path, _listed(value, levels=2).encode() + b"\n")


def _listed(value: object, levels: int, indent: str = "") -> str:
    if not levels or not value or not isinstance(value, dict | list):
        return canonical_json(value)
    deeper = indent + " "
    if isinstance(value, list):
        opening, closing, entries = "[", "]", [_listed(each, levels - 1, deeper) for each in value]
    else:
        pairs = sorted(value.items())
        opening, closing = "{", "}"
        entries = [f"{canonical_json(key)}:{_listed(each, levels - 1, deeper)}" for key, each in pairs]
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(entries) + f"\n{indent}{closing}"


def copy_file(source: Path, target: Path) -> None:
    """A copy that appears whole or not at all."""
    with open(source, "rb") as stream, atomic_file(target) as copy:
        shutil.copyfileobj(stream, copy, CHUNK_BYTES)


def inside(root: Path, name: str, any_letters: bool = False) -> Path:
    """`root / name` for a name that came from a file: relative, plain characters, no `..`, and it stays inside.

    any_letters: files of others, which may have spaces and letters of any language in their names.
    """
    parts = PurePosixPath(name).parts
    is_long = len(name) > PATH_CHARACTERS or any(
        len(part.encode("utf-8", "replace")) > PATH_PART_BYTES for part in parts
    )
    is_plain = name.isprintable() and "\\" not in name if any_letters else RELATIVE_PATH.fullmatch(name)
    if is_long or not is_plain or leads_out(name):
        raise BadDataError("unsafe file name", file=root, found=name[:200], expected="a relative path without '..'")
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise BadDataError("a listed file lies outside its folder", file=root, found=name[:200])
    return path
