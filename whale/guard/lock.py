"""One writer per output: an flock that lives until the last process holding it is gone."""

import fcntl
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from whale.common.errors import BadDataError, BusyError
from whale.common.json_files import parse_json


def acquire(path: Path, output: Path) -> int:
    """Lock `path` for `output`, without waiting; returns the descriptor, which forked children inherit.

    The lock ends when the last process that holds the descriptor ends, so an orphan of a killed stage keeps it.
    BusyError names the holder's pid, host and start time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 4096, 0).decode(errors="replace")
        os.close(descriptor)
        raise _busy(output, path, holder) from None
    os.set_inheritable(descriptor, True)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": platform.node(), "started": started}).encode(), 0)
    return descriptor


def release(descriptor: int) -> None:
    """Give up this process' share of the lock."""
    os.close(descriptor)


def lock_path(state_dir: Path, output: Path) -> Path:
    """`artifacts/demo/mix` -> `.whale/locks/artifacts-demo-mix.lock`."""
    return state_dir / "locks" / (output.as_posix().strip("/").replace("/", "-") + ".lock")


def _busy(output: Path, path: Path, holder: str) -> BusyError:
    try:
        row = parse_json(holder, path)
        found = f"pid {row['pid']} on {row['host']}, started {row['started']}"
    except (BadDataError, KeyError, TypeError):  # locked, but not yet written down
        found = "another process, just starting"
    remedy = "wait for it, or end it by its pid"
    return BusyError("another process makes this output", file=output, place=str(path), found=found, remedy=remedy)
