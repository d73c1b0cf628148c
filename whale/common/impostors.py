"""What often lies where a data file should: a Git LFS pointer, a web page, an archive.

`boundary.reading` names it for every reader. Only the first bytes are looked at.
"""

from collections.abc import Iterable
from pathlib import Path

from whale.common.errors import BadDataError

POINTER = b"version https://git-lfs"
# First bytes -> what it is and what to do.
IMPOSTORS = {
    POINTER: ("a Git LFS pointer, not the file", "fetch the real file: `git lfs pull`"),
    b"<!DOCTYPE": ("an HTML page", "the download was answered by a web page; download again"),
    b"<html": ("an HTML page", "the download was answered by a web page; download again"),
    b"<?xml": ("an XML error page", "the object store refused the download; download again"),
    b"\x1f\x8b": ("gzip-compressed", "decompress it, or write the dataset without compression"),
}
POINTER_BYTES = 1024  # the specification's limit
HEAD_BYTES = 64
SHOWN = 5


def impostor(head: bytes) -> tuple[str, str] | None:
    """(what it is, what to do) by the first bytes of a file; None for nothing that is known."""
    return next((told for magic, told in IMPOSTORS.items() if head.startswith(magic)), None)


def impostor_at(path: Path) -> tuple[str, str] | None:
    """The same of a file; None where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return impostor(stream.read(HEAD_BYTES))
    except OSError:
        return None


def named(path: Path, otherwise: str) -> str:
    """What is wrong with a file that its reader could not read: its impostor's name, else `otherwise`."""
    told = impostor_at(path)
    return otherwise if told is None else f"{told[0]}: {told[1]}"


def refuse_pointers(directory: Path, files: Iterable[str]) -> None:
    """BadDataError if some of the files are Git LFS pointers: all of them at once, before anything is read."""
    small = [file for file in files if (directory / file).is_file() and _size(directory / file) <= POINTER_BYTES]
    pointers = [file for file in small if impostor_at(directory / file) == IMPOSTORS[POINTER]]
    if pointers:
        more = f" and {len(pointers) - SHOWN} more" if len(pointers) > SHOWN else ""
        raise BadDataError(
            f"{len(pointers)} files are Git LFS pointers, not the data", file=directory / pointers[0],
            found=", ".join(pointers[:SHOWN]) + more, expected="the files themselves",
            remedy="`git lfs install && git lfs pull` in the folder of the dataset",
        )  # fmt: skip


def _size(path: Path) -> int:
    return path.stat().st_size
