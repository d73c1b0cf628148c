"""The one way files are written, and their digest: a reader sees the old bytes or the new bytes, never a part.

Temporary file in the same folder, fsync, rename, fsync of the folder. The temporary name says whose it is, so that what
a killed writer left can be told from what a living one writes: `.NAME.tmp-<host>-<pid>-<random>`.
"""

import errno
import hashlib
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from whale.common.errors import CannotWriteError

MANIFEST_NAME = "MANIFEST.json"  # of a sealed folder (whale/seal.py)
WEIGHTS = "model.safetensors"  # a sealed folder that has it is a checkpoint
CHUNK_BYTES = 2**20
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(tmp|old)-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{32}")
HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
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
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # nothing but writing meets them
FOREIGN_SECONDS = 24 * 3600  # another machine's temporary file that has not changed for so long has no writer


def leads_out(name: str) -> bool:
    """Whether a relative name that came from a file leaves its folder; of its text alone, links are not looked at."""
    return not name or name.startswith("/") or ".." in name.split("/") or "\0" in name


def sha256_of_file(path: str | Path) -> str:
    """Hex sha256 of the bytes of `path`, never all of them in memory."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def md5_of_file(path: str | Path) -> str:
    """Hex md5, which is what DVC notes of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def temporary_path(path: Path, kind: Literal["tmp", "old"] = "tmp") -> Path:
    """A fresh name beside `path` that says which process of which machine uses it."""
    return path.parent / f".{path.name}.{kind}-{HOST}-{os.getpid()}-{uuid.uuid4().hex}"


def is_abandoned(path: Path) -> bool:
    """Whether `path` has a temporary name and its writer is gone; on another machine: it has long been untouched."""
    match = TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    if match["host"] == HOST:
        pid = int(match["pid"])  # our own: this process starts only now, so the name is an earlier one's
        return pid == os.getpid() or not is_alive(pid)
    with suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime > FOREIGN_SECONDS
    return False


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has this pid, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0  # 0 is our own group


def temporary_name_of(path: Path) -> str | None:
    """The final name for which `path` is a temporary one; None if it is not."""
    match = TEMPORARY.fullmatch(path.name)
    return match["name"] if match else None


@contextmanager
def refusals_named(path: Path) -> Iterator[None]:
    """CannotWriteError for what a person can mend (a full disk, a read-only folder); other OSErrors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED_BY_THE_SYSTEM:
            raise
        raise cannot_write(error, path) from None


def cannot_write(error: OSError, path: str | Path | None) -> CannotWriteError:
    """What `error`, one of REFUSED_BY_THE_SYSTEM, says to a person."""
    remedy = REFUSED_BY_THE_SYSTEM[error.errno or 0]
    return CannotWriteError("cannot write", file=path, found=error.strerror, remedy=remedy)


@contextmanager
def atomic_file(path: str | Path, lasts: bool = True) -> Iterator[BinaryIO]:
    """A binary stream that becomes `path` on a clean exit; on an exception the old bytes stay.

    `lasts` False leaves out both fsyncs: a power cut may leave an empty file, so only for what can be made anew.
    Raises CannotWriteError as `refusals_named` says.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        with refusals_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(_create(temporary, 0o644), "wb") as stream:
                yield stream
                stream.flush()
                if lasts:
                    os.fsync(stream.fileno())
            os.replace(temporary, path)
            if lasts:
                sync_file(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: str | Path, payload: bytes, lasts: bool = True) -> None:
    """`payload` as the whole content of `path`; `lasts` as for `atomic_file`."""
    with atomic_file(path, lasts) as stream:
        stream.write(payload)


def write_secret_once(path: Path, payload: bytes) -> bool:
    """A file (0600, its folder, if made here, 0700) that is complete from the first moment; one that lies there stays.

    Returns whether the file is ours.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with os.fdopen(_create(temporary, 0o600), "wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temporary, path)
            is_ours = True
        except FileExistsError:  # another process was first; its file holds
            is_ours = False
    finally:
        temporary.unlink(missing_ok=True)
    sync_file(path.parent)
    return is_ours


def sync_file(path: str | Path) -> None:
    """fsync of a file that is already there, or of a folder, so that renames inside it last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(path: Path, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
