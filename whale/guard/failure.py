"""How a process ends when something went wrong: one clear message and the exit code of docs/reference/cli.md."""

import sys
import traceback
from types import TracebackType

from whale.common.errors import WhaleError
from whale.common.files import DISK_ERRORS, cannot_write


def as_whale_error(error: BaseException) -> WhaleError | None:
    """The error that a person caused, also when a framework wrapped it; None for a bug."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        if isinstance(each, WhaleError):
            return each
        if isinstance(each, OSError) and each.errno in DISK_ERRORS:
            return cannot_write(each, each.filename)
        wrapped = getattr(each, "cause", None)  # Ray's RayTaskError
        each = wrapped if isinstance(wrapped, BaseException) else each.__cause__ or each.__context__
    return None


def report(error: BaseException) -> int:
    """Print `error` to stderr, a traceback only for a bug; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    known = as_whale_error(error)
    if known is not None:
        print(f"error: {known}", file=sys.stderr, flush=True)
        return known.exit_code
    traceback.print_exception(error)
    return 70


def install() -> None:
    """Make `report` the end of this process: covers errors before, in and after the stage guard."""
    sys.excepthook = _hook


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    raise SystemExit(report(error))  # CPython takes the exit code from a SystemExit of the hook
