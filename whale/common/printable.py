"""Text from data, made harmless where it is shown: the one place for terminals and logs, and for pages' controls.

A terminal obeys control characters; bidirectional marks turn a line round; a lone surrogate cannot be printed at all;
an address may hold a password. Escapes have the form of JSON (`\\u001b`), so that escaped JSON stays the same JSON.
"""

import re
import reprlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from whale.common.limits import SHOWN_CHARACTERS

# Controls but tab and newline; bidirectional and zero-width marks, tags; separators of lines; lone surrogates.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
BREAKS = re.compile("[\t\n]")
PASSWORD = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,30}://)[^\s/@?#]{1,500}@")
SIGNED = re.compile(
    r"(?i)([?&](?:x-amz-|x-goog-)?(?:signature|sig|token|access_token|credential|security-token|key|api_key|password)=)"
    r"[^&\s'\"]{1,4000}"
)
MANY = list | tuple | set | frozenset | dict


def _cutting(items: int, characters: int) -> reprlib.Repr:
    cut = reprlib.Repr()
    cut.maxlevel, cut.maxdict, cut.maxlong = 4, items, 80
    cut.maxlist = cut.maxtuple = cut.maxset = cut.maxfrozenset = items
    cut.maxstring = cut.maxother = characters
    return cut


_FOUND, _SHORT = _cutting(40, SHOWN_CHARACTERS), _cutting(6, 160)


def printable(text: str) -> str:
    """`text` with nothing in it that a terminal obeys, a page hides or an encoder refuses."""
    return UNSAFE.sub(lambda match: _escape(match[0]), text)


def one_line(value: Any) -> Any:
    """`value` with every text in it `printable` and on one line, so that none looks like a line of ours; numbers and
    None as they are."""
    if isinstance(value, str):
        return BREAKS.sub(lambda match: _escape(match[0]), printable(value))
    if isinstance(value, Mapping):
        return {one_line(key): one_line(each) for key, each in value.items()}
    return [one_line(each) for each in value] if isinstance(value, list | tuple) else value


def without_secrets(text: str) -> str:
    """Passwords and signatures of addresses are left out."""
    return SIGNED.sub(r"\1***", PASSWORD.sub(r"\1***@", text)) if "://" in text else text


def brief(value: object) -> str:
    """What was found, for an error: cut whatever its size and depth, and never all of it built first."""
    if isinstance(value, MANY) or (isinstance(value, int) and value.bit_length() > 256):
        return shown(value, _FOUND)
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def shown(value: object, how: reprlib.Repr = _SHORT) -> str:
    """`repr`, cut; of a number of thousands of digits, only how many bits it has."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    try:
        return how.repr(value)
    except ValueError as error:  # such a number within
        return f"{type(value).__name__}: {error}"


def _escape(character: str) -> str:
    """As JSON has it: above U+FFFF two halves of a pair."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[start : start + 2].hex()}" for start in range(0, len(units), 2))


class Terminal:
    """A text stream through which everything printed goes: escaped, and never an encoding error.

    `obeyed` writes what this program itself says to a terminal, such as "back to the start of the line".
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_encodable(printable(without_secrets(text)), self._stream))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def obeyed(self, text: str) -> None:
        self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _encodable(text: str, stream: Any) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        with suppress(LookupError):
            return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


@contextmanager
def escaped_output() -> Iterator[None]:
    """Inside, nothing that is printed can command a terminal."""
    before = sys.stdout, sys.stderr
    install()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def install() -> None:
    """For a process that ends with it. Twice is once."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Terminal):
            setattr(sys, name, Terminal(stream))
