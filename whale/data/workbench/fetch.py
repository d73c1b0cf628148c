"""Raw files of a dataset from a bucket: each whole, of the promised size and sha256, or not there at all.

A download goes on where it broke off, after a truncated answer as well; what arrives is hashed while it is written and
gets its name only when it is what `files` promises. Any fsspec URI serves (gs:// and s3:// need gcsfs and s3fs).
Memory: one chunk.
"""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from whale.common.boundary import told
from whale.common.errors import MismatchError, MissingInputError, RefusedError, WhaleError
from whale.common.files import CHUNK_BYTES, refusals_named, sha256_of_file, sync_file
from whale.common.printable import without_secrets
from whale.data.ingest.sources.location import DescribedFile
from whale.data.storage.files import inside
from whale.data.workbench.http_ranges import is_http, read_from

WAIT_SECONDS = 1.0  # before the second try, doubled from try to try


def fetch_files(
    files: Iterable[DescribedFile],
    uri: str,
    target: Path,
    tries: int = 5,
    done: Callable[[int], object] = lambda size: None,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Bring every file below `uri` to `target`; what is there and right is left alone. Returns how many came.

    Raises MissingInputError if a file cannot be had after `tries` without progress, MismatchError if it is another than
    promised.
    """
    import fsspec

    fetched = 0
    for file in files:
        path = inside(target, file.path, any_letters=True)
        if path.is_file() and path.stat().st_size == file.bytes and sha256_of_file(path) == file.sha256:
            continue
        filesystem, root = fsspec.core.url_to_fs(uri.rstrip("/"))
        _fetch(filesystem, f"{root}/{file.path}", file, path, tries, sleep)
        fetched += 1
        done(file.bytes)
    return fetched


def _fetch(
    filesystem: Any, remote: str, file: DescribedFile, path: Path, tries: int, sleep: Callable[[float], object]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    problem, without_progress = "", 0
    while without_progress < tries:
        before = partial.stat().st_size if partial.is_file() and not partial.is_symlink() else 0
        if before > file.bytes:
            partial.unlink()
            before = 0
        problem = _append(filesystem, remote, partial, before, file.bytes)
        size = partial.stat().st_size if partial.is_file() else 0
        if size == file.bytes:
            _publish(partial, path, file, remote)
            return
        without_progress = 0 if size > before else without_progress + 1
        if 0 < without_progress < tries:
            sleep(WAIT_SECONDS * 2 ** (without_progress - 1))
    raise MissingInputError(
        "a file could not be fetched", file=without_secrets(remote),
        place=f"byte {partial.stat().st_size if partial.is_file() else 0}",
        found=problem or "answers end too early", expected=f"{file.bytes} bytes", remedy="run again: it goes on there",
    )  # fmt: skip


def _append(filesystem: Any, remote: str, partial: Path, start: int, size: int) -> str:
    """Add what comes from `start` on; returns what ended the try, "" at the end of the file.

    Only the other side is tried again: a disk of this machine that refuses is a CannotWriteError at once.
    """
    pieces = (
        read_from(remote, start, size, CHUNK_BYTES) if is_http(remote) else _ranges(filesystem, remote, start, size)
    )
    with refusals_named(partial), _opened(partial) as stream:
        while start < size:
            try:
                data = next(pieces, b"")
            except WhaleError:
                raise
            except Exception as error:  # of fsspec or whatever client is below it; size and sha256 decide at the end
                return without_secrets(told(error))
            if not data:
                return f"the answer ends at {start}"
            stream.write(data[: size - start])
            start += len(data[: size - start])
    return ""


def _ranges(filesystem: Any, remote: str, start: int, size: int) -> Iterator[bytes]:
    """Ask for one chunk after another; an answer that is shorter ends the try."""
    while start < size:
        wanted = min(CHUNK_BYTES, size - start)
        data = filesystem.cat_file(remote, start=start, end=start + wanted)
        yield data[:wanted]
        start += wanted
        if len(data) < wanted:
            return


def _opened(partial: Path) -> BinaryIO:
    """To append to; a symbolic link in its place, which would lead elsewhere, is refused."""
    try:
        return os.fdopen(os.open(partial, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC), "ab")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RefusedError("a link lies where a download is kept", file=partial, remedy="remove it") from None
        raise


def _publish(partial: Path, path: Path, file: DescribedFile, remote: str) -> None:
    with open(partial, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        os.fsync(stream.fileno())
    if found != file.sha256:
        partial.unlink()
        raise MismatchError(
            "the bucket holds another file than the described one", file=without_secrets(remote),
            found=found, expected=file.sha256,
            remedy="check version and place; describe the new data if it is meant to be another",
        )  # fmt: skip
    os.replace(partial, path)
    sync_file(path.parent)
