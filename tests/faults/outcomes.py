"""A fault, what came of it, and the tools that inject faults into a real process."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from whale.common.errors import WhaleError

RIGHT, CLEAR, SILENT = "right", "clear error", "silent"
EVENTS = ("write", "fsync", "replace", "link", "unlink")


class Fault(NamedTuple):
    """`number` groups the rows of scripts/fault_table.py; `run(folder)` injects it and returns what came of it."""

    number: str
    name: str
    run: Callable[[Path], str]


def outcome(act: Callable[[], object], right: object = None, names: str = "") -> str:
    """RIGHT if `act` gives `right`, CLEAR if it raises an error of ours that contains `names`, else SILENT.

    Any other exception is a crash and passes through.
    """
    try:
        found = act()
    except WhaleError as error:
        return CLEAR if names in str(error) else SILENT
    return RIGHT if right is not None and found == right else SILENT


def worst(outcomes: list[str]) -> str:
    """The outcome of a family of faults: its worst."""
    return max(outcomes, key=[RIGHT, CLEAR, SILENT].index)


def killed_at(event: int, body: Callable[[], object]) -> bool:
    """Run `body` in a forked process that SIGKILLs itself at its `event`-th write, fsync, rename, link or unlink.

    True if it was killed, False if it ended before.
    """
    child = os.fork()
    if child == 0:
        _kill_at(event)
        try:
            body()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def count_events(body: Callable[[], object]) -> int:
    """How many such events `body` has, counted in a forked process."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        counter = _wrap(lambda count: None)
        try:
            body()
        finally:
            os.write(writer, str(counter[0]).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        count = int(stream.read())
    os.wait()
    return count


def _kill_at(event: int) -> None:
    _wrap(lambda count: os.kill(os.getpid(), signal.SIGKILL) if count == event else None)


def _wrap(hook: Callable[[int], object]) -> list[int]:
    """Call `hook(n)` before the n-th event of this process; the original functions run unchanged."""
    from whale.data.storage.tar import TarWriter

    count = [0]

    def before(function):
        def wrapped(*arguments, **keywords):
            hook(count[0])
            count[0] += 1
            return function(*arguments, **keywords)

        return wrapped

    TarWriter._write = before(TarWriter._write)
    for name in ("fsync", "replace", "link", "unlink"):
        setattr(os, name, before(getattr(os, name)))
    return count
