"""Files appear whole or not at all: temporary name in the same folder, fsync, rename, fsync of the folder."""

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from whale.config import canonical_json
from whale.errors import BadDataError, CannotWriteError

REFUSED_BY_THE_SYSTEM = {
    errno.ENOSPC: "free space, then run again",
    errno.EDQUOT: "free space, then run again",
    errno.EFBIG: "raise the limit of file sizes, then run again",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "make the folder writable, or choose another one",
    errno.EPERM: "make the folder writable, or choose another one",
    errno.ENOTDIR: "a file lies where a folder should be",
    errno.EEXIST: "a file lies where a folder should be",
    errno.ENAMETOOLONG: "choose a shorter name or folder",
}
RELATIVE_PATH = re.compile(r"[A-Za-z0-9._/-]+")
CHUNK = 2**20


@contextmanager
def refusals_named(path: Path) -> Iterator[None]:
    """CannotWriteError for what a person can mend (a full disk, a read-only folder); other OSErrors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED_BY_THE_SYSTEM:
            raise
        remedy = REFUSED_BY_THE_SYSTEM[error.errno]
        raise CannotWriteError("cannot write", file=path, found=error.strerror, remedy=remedy) from None


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary stream that becomes `path` on a clean exit; on an exception the previous state is intact."""
    temporary = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with refusals_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(temporary, flags, 0o644), "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_file(path) as stream:
        stream.write(data)


def write_json(path: Path, value: object) -> None:
    """Canonical JSON (sorted keys, ASCII, no NaN) with a final newline."""
    write_bytes(path, canonical_json(value).encode() + b"\n")


def copy_file(source: Path, target: Path) -> None:
    """A copy that appears whole or not at all."""
    with open(source, "rb") as stream, atomic_file(target) as copy:
        shutil.copyfileobj(stream, copy, CHUNK)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def inside(root: Path, name: str) -> Path:
    """`root / name` for a name that came from a file: relative, plain characters, no `..`, and it stays inside."""
    parts = PurePosixPath(name).parts
    if not RELATIVE_PATH.fullmatch(name) or name.startswith("/") or ".." in parts:
        raise BadDataError("unsafe file name", file=root, found=name[:200], expected="a relative path without '..'")
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise BadDataError("a listed file lies outside its folder", file=root, found=name[:200])
    return path
