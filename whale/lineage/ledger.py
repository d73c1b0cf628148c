"""The ledger: one signed statement per line, each line naming the hashes of the heads before it.

`lineage/ledger.jsonl` is only ever appended to; `lineage/HEAD` holds the ids of its heads and is kept by git, so that a
line cut off the end is noticed. A line's id is the sha256 of its bytes without the newline. `prev` is a list because a
merge of two git branches leaves two heads; the next line names both. What is signed says its place, {"ledger", "seq",
"prev"}: an envelope that is copied to another line, or to another ledger, says that it does not belong there.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError, CannotWriteError, MismatchError, MissingInputError, RefusedError
from whale.common.files import refusals_named, sync_file, write_atomically
from whale.common.json_files import canonical_json, parse_json
from whale.common.limits import LEDGER_LINE_BYTES
from whale.lineage.signing import Envelope, payload_of

LEDGER, HEAD = Path("lineage/ledger.jsonl"), Path("lineage/HEAD")
HEAD_FORM = re.compile(r"([0-9a-f]{64}\n)+")
PREV = re.compile(rb'"prev":\[([^\]]*)\],"seq":\d+\}$')
QUOTED = re.compile(r'"([0-9a-f]{64})"')


@dataclass(frozen=True)
class Entry:
    """One line: its id, place in the file (from 1), envelope, and the statement in it (not yet verified)."""

    id: str
    line: int
    seq: int
    prev: tuple[str, ...]
    envelope: Envelope
    statement: dict[str, Any]


def append(seal: Callable[[dict[str, Any]], Envelope], ledger: Path = LEDGER, head: Path = HEAD) -> str:
    """Add one line and return its id; processes wait for one another. A torn last line is cut off first.

    `seal`: from the place {"seq", "prev"} that the line gets to the envelope that stands there. CannotWriteError where
    the line did not fit: the ledger then is as it was. Ids of HEAD that the ledger lacks stay in HEAD: a removed line
    must be noticed also after the next run.
    """
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with _locked(ledger) as descriptor:
        lines = _whole_lines(descriptor)
        ids = [hashlib.sha256(line).hexdigest() for line in lines]
        heads = _heads(lines, ids)
        place = {"prev": heads, "seq": len(lines) + 1}
        line = canonical_json({"dsse": dict(seal(dict(place))), **place}).encode()
        _require_readable(line, len(lines) + 1, ledger)
        _write_line(descriptor, line + b"\n", ledger)
        entry_id = hashlib.sha256(line).hexdigest()
        lost = sorted(set(_noted(head)) - set(ids))
        write_atomically(head, "".join(f"{each}\n" for each in [entry_id, *lost]).encode())
    return entry_id


def read(ledger: Path = LEDGER) -> list[Entry]:
    """Every line, in order; MismatchError names the first that is no line of a ledger, or whose chain is broken."""
    if not ledger.is_file():
        raise MissingInputError("no ledger", file=ledger, remedy="`dvc repro` writes it; or take it from git")
    return entries_of(ledger.read_bytes(), ledger)


def entries_of(payload: bytes, ledger: Path) -> list[Entry]:
    """`read`, of bytes that lay in `ledger`."""
    if payload and not payload.endswith(b"\n"):
        raise MismatchError("the last line is torn", file=ledger, remedy="the next stage run cuts it off")
    entries: list[Entry] = []
    known: set[str] = set()
    for number, line in enumerate(payload.split(b"\n")[:-1], start=1):
        entry = _entry(line, number, ledger)
        if entry.id in known:
            raise MismatchError("a line stands twice", file=ledger, place=f"line {number}", found=entry.id[:16])
        unknown = [each for each in entry.prev if each not in known]
        if unknown or (number > 1 and not entry.prev):
            found = f"prev {', '.join(each[:16] for each in unknown) or 'nothing'}"
            raise MismatchError("the chain is broken", file=ledger, place=f"line {number}", found=found)
        known.add(entry.id)
        entries.append(entry)
    return entries


def check_head(entries: list[Entry], head: Path = HEAD, expected: str | None = None) -> None:
    """Every id of HEAD, and `expected` (kept elsewhere), must be in the ledger.

    HEAD may lag behind: a run that was killed between its line and HEAD leaves that, and harms nothing.
    """
    if not head.is_file():
        raise MissingInputError("no ledger head", file=head, remedy="take it from git")
    text = head.read_text(encoding="ascii", errors="replace")
    ids = {entry.id for entry in entries}
    if not HEAD_FORM.fullmatch(text):
        raise MismatchError("not a ledger head", file=head, found=text[:80], expected="lines of 64 hex digits")
    lost = [each for each in [*text.split(), *([expected] if expected else [])] if each not in ids]
    if lost:
        raise MismatchError("a head is not in the ledger: lines were removed or changed", file=head, found=lost[0])


def _require_readable(line: bytes, number: int, ledger: Path) -> None:
    """By the reader itself: one line that it refuses would take the whole ledger with it."""
    try:
        _entry(line, number, ledger)
    except MismatchError as error:
        raise CannotWriteError("a statement that no ledger can hold", file=ledger, place=error.place,
                               found=error.found, remedy="record less with the run") from None  # fmt: skip


def _entry(line: bytes, number: int, ledger: Path) -> Entry:
    try:
        if len(line) > LEDGER_LINE_BYTES:
            raise ValueError(f"{len(line)} bytes, at most {LEDGER_LINE_BYTES}")
        row = parse_json(line, ledger)
        prev, seq = tuple(str(each) for each in row["prev"]), row["seq"]
        if set(row) != {"dsse", "prev", "seq"} or type(seq) is not int or canonical_json(row).encode() != line:
            raise ValueError("not in the form that this project writes")
        statement = payload_of(row["dsse"])
    except (ValueError, KeyError, TypeError, RecursionError, BadDataError, RefusedError) as error:
        found = getattr(error, "found", None) or error
        raise MismatchError("not a line of a ledger", file=ledger, place=f"line {number}", found=str(found)) from None
    return Entry(hashlib.sha256(line).hexdigest(), number, seq, prev, row["dsse"], statement)


def _heads(lines: list[bytes], ids: list[str]) -> list[str]:
    """Ids that no line names; read off the lines' ends, so that a stage does not parse the whole ledger."""
    named: set[str] = set()
    for line in lines:
        if match := PREV.search(line):
            named.update(QUOTED.findall(match[1].decode("ascii", "replace")))
    return [each for each in ids if each not in named]


def _write_line(descriptor: int, line: bytes, ledger: Path) -> None:
    """All of it or nothing: the system may take a part of a write, on a disk that is nearly full."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        with refusals_named(ledger):
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
            sync_file(ledger.parent)
    except BaseException:
        os.ftruncate(descriptor, end)
        raise


def _noted(head: Path) -> list[str]:
    text = head.read_text(encoding="ascii", errors="replace") if head.is_file() else ""
    return text.split() if HEAD_FORM.fullmatch(text) else []


def _whole_lines(descriptor: int) -> list[bytes]:
    """All lines. A writer that was killed inside its one write leaves bytes without a newline: they are cut off, they
    were never in the chain."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 2**20):
        parts.append(part)
    payload = b"".join(parts)
    end = payload.rfind(b"\n") + 1
    if end < len(payload):
        os.ftruncate(descriptor, end)
    return payload[:end].split(b"\n")[:-1]


@contextmanager
def _locked(ledger: Path) -> Iterator[int]:
    descriptor = os.open(ledger, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
