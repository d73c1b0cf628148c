"""Errors a user can cause: one message names the file, the place, what was found and expected, and what to do.

The exit codes follow BSD sysexits where one fits; `docs/reference/cli.md` has the one table.
"""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from whale.common.limits import ERROR_CHARACTERS
from whale.common.printable import brief, printable, without_secrets

PLAIN = str | int | float | bool | None


class WhaleError(Exception):
    """Base of every error that a person, not a bug, can cause; `exit_code` is what the process ends with."""

    exit_code = 70

    def __init__(
        self,
        what: str,
        *,
        file: str | Path | None = None,
        place: str | None = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ):
        self.what, self.file, self.place = what, file, place
        self.found, self.expected, self.remedy = found, expected, remedy
        super().__init__(str(self))

    def __reduce__(self):  # keyword arguments survive the trip between worker processes; what may not is text by then
        found, expected = (each if isinstance(each, PLAIN) else str(each) for each in (self.found, self.expected))
        return _rebuild, (type(self), self.what, self.file, self.place, found, expected, self.remedy)

    def __str__(self) -> str:
        """Text from data stands indented below its own field: it can neither pass for another nor move a cursor."""
        fields = {name: getattr(self, name) for name in ("file", "place", "found", "expected", "remedy")}
        lines = [f"  {name + ':':<10}{_shown(value)}" for name, value in fields.items() if value is not None]
        return "\n".join([_shown(self.what), *lines])


CONTINUED = "\n" + " " * 12


def _shown(value: object) -> str:
    """Cut, for a terminal; what is longer than ERROR_CHARACTERS is no message."""
    text = str(value)[:ERROR_CHARACTERS] if isinstance(value, str | Path) else brief(value)
    return printable(without_secrets(text)).replace(CONTINUED, "\n").replace("\n", CONTINUED)


def _rebuild(cls, what, file, place, found, expected, remedy):
    return cls(what, file=file, place=place, found=found, expected=expected, remedy=remedy)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or all of them: what an error expects."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"one of: {', '.join(names)}"


def portable(error: BaseException) -> Exception:
    """An error that survives the trip between processes: a WhaleError as it is, another one with its trace as text."""
    if isinstance(error, WhaleError):
        return error
    text = "".join(traceback.format_exception(error))
    if len(text) > ERROR_CHARACTERS:
        half = ERROR_CHARACTERS // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return RuntimeError(text)


class MismatchError(WhaleError):
    """Bytes differ from what a manifest or a statement says."""

    exit_code = 1


class MissingInputError(WhaleError):
    """An input or an artefact is not there."""

    exit_code = 2


class RefusedError(WhaleError):
    """A signature, a licence or a policy forbids it."""

    exit_code = 3


class IncompleteError(WhaleError):
    """The lineage says too little of something: nobody signed for it, or a field is missing."""

    exit_code = 4


class TaintedError(WhaleError):
    """Made from something that was declared tainted."""

    exit_code = 5


class ConfigError(WhaleError):
    """Wrong usage: a parameter, a spec or a command line."""

    exit_code = 64


class BadDataError(WhaleError):
    """Input data are damaged or are not what their spec says."""

    exit_code = 65


class BeyondLimitError(BadDataError):
    """Input data ask for more than whale/common/limits.py allows: perhaps whole, but not safe to read."""


class WorkerLostError(WhaleError):
    """A process that works for a stage ended without an error of its own: killed, out of memory, or hung and ended."""

    exit_code = 71

    def __init__(self, what: str, **fields: Any):
        super().__init__(
            what, **({"remedy": "look at the system's log for a lack of memory, then run it again"} | fields)
        )


class CannotWriteError(WhaleError):
    """The disk is full or read-only."""

    exit_code = 73


class BusyError(WhaleError):
    """Somebody else holds the lock."""

    exit_code = 75
