"""Write one file so that a reader sees the old bytes or the new bytes, never a part."""

import os
import uuid
from pathlib import Path


def write_atomically(path: str | Path, payload: bytes) -> None:
    """Temporary file in the same folder, fsync, rename, fsync of the folder. OSError passes through."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}-{uuid.uuid4().hex}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_file(path: str | Path) -> None:
    """fsync of a file or a folder that is already there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: str | Path) -> None:
    """Make renames inside `path` last."""
    sync_file(path)
