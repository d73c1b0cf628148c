"""Where foreign bytes become values: whatever is wrong inside ends in one named error, and memory has an end.

A reader's library raises what it likes (KeyError, struct.error, UnicodeDecodeError, its own classes), and the next
version another one. So the format's edge is drawn here, not by lists of classes. Keep what stands inside small:
parsing, nothing of ours that could hide a bug of ours.
"""

import os
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from whale.common.errors import BadDataError, WhaleError
from whale.common.impostors import impostor_at

OURS = str(Path(__file__).parents[1]) + os.sep
BUGS = AssertionError | NameError | NotImplementedError  # `assert` is for what we believe cannot happen
_lock = threading.Lock()
_inside = 0
_before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@contextmanager
def reading(
    file: str | Path, what: str, *, place: str | None = None, expected: object = None, memory: int = 0
) -> Iterator[None]:
    """Any error inside becomes a BadDataError of `file`; a WhaleError stays as it is, and so do a missing package and
    what `is_bug`. What often lies in a data file's place (a Git LFS pointer, a web page) is named, with what to do.

    memory: bytes that may be reserved inside beyond what is in use, for a library that asks its input how much to take.
    """
    try:
        with _bounded(memory):
            yield
    except (WhaleError, ImportError):
        raise
    except Exception as error:
        if is_bug(error):
            raise
        instead, remedy = impostor_at(Path(file)) or (None, None)
        what = what if instead is None else f"{what}: it is {instead}"
        raise BadDataError(what, file=file, place=place, found=told(error), expected=expected, remedy=remedy) from error


def is_bug(error: Exception) -> bool:
    """Whether our own code is wrong whatever the file holds: raised in it, and of a kind that no bytes can cause.

    Bytes do cause KeyError, TypeError and the like in code that looks into them; those stay errors of the file, with
    their trace behind them.
    """
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None or not frame.tb_frame.f_code.co_filename.startswith(OURS):
        return False
    if isinstance(error, AttributeError):
        kind = error.obj if isinstance(error.obj, type | ModuleType) else type(error.obj)
        return (kind.__name__ if isinstance(kind, ModuleType) else kind.__module__).partition(".")[0] == "whale"
    return isinstance(error, BUGS)


def told(error: BaseException) -> str:
    """Of a library's error, its class and first lines."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than it may have"
    return f"{type(error).__name__}: {error}"[:300]


@contextmanager
def _bounded(memory: int) -> Iterator[None]:
    """The limit is the process's: where several threads read, it holds until the last one is through."""
    global _inside, _before
    if not memory:
        yield
        return
    with _lock:
        if not _inside:
            _before = resource.getrlimit(resource.RLIMIT_AS)
        _inside += 1
        _limit(_reserved() + memory)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _set(_before[0])


def _limit(size: int) -> None:
    """Never above what was allowed before."""
    known = [each for each in _before if each != resource.RLIM_INFINITY]
    _set(min([size, *known]))


def _set(soft: int) -> None:
    with suppress(ValueError, OSError):  # a system without this limit
        resource.setrlimit(resource.RLIMIT_AS, (soft, _before[1]))


def _reserved() -> int:
    """Bytes of address space in use; of a system that does not say, so much that the limit never bites."""
    with suppress(OSError, ValueError):
        pages = re.match(r"\d+", Path("/proc/self/statm").read_text())
        if pages:
            return int(pages[0]) * resource.getpagesize()
    return 2**46
