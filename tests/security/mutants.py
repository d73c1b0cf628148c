# ruff: noqa: E501  lists of inputs
"""Thousands of spoilt inputs of every format, each read in a child with little memory: what came of them.

    python tests/security/mutants.py --each 600 --seed 1
    python tests/security/mutants.py --format npz --only 4711 --show

A mutant is a recipe (a list of edits), so what once failed is kept as text: tests/security/corpus/. Counted: read after
all, refused by name, tracebacks, crashes, hangs (10 s of processor time), the most memory, and what was executed: the
child hears every process, shell, connection, pickle and foreign import through an audit hook.
"""

import argparse
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE)]

from formats import FORMATS, Format  # noqa: E402

MEMORY = 1 << 30  # bytes that a child may reserve beyond what its imports did
CPU_SECONDS, WALL_SECONDS = 10, 120  # of one mutant
BATCH = 200
MARKER = "whale_mutant_ran"
NUMBERS = [
    "0",
    "-1",
    "1e999",
    "NaN",
    "1" * 40,
    "9" * 5000,
    str(2**31),
    str(2**63),
    "-" + str(2**70),
    "0.1",
    "null",
    "true",
]
WORDS = ['"\\ud800"', '"\\u0000"', '"../../x"', '"/etc/passwd"', "[]", "{}", "null", "[" * 3000, '"' + "x" * 5000 + '"',
         '"\\u001b[2J"', f'"; touch {MARKER} ;"', f'"$(touch {MARKER})"', f"!!python/object/apply:os.system ['touch {MARKER}']",
         "*a", "&a [*a]", "2026-13-45", "!!int abc", '{"a":' * 200]  # fmt: skip
PICKLE = b"cposix\nsystem\n(S'touch " + MARKER.encode() + b"'\ntR."
FIXED = [b"\0", b"\xff", b"\x7f", b"\xff\xff\xff\xff", b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", PICKLE,
         b"../../../x", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", b"'|O'", b"'<f8'", b"[" * 64]  # fmt: skip
Edit = tuple[Any, ...]


def recipe(data: bytes, rng: random.Random) -> list[Edit]:
    """Edits of one file: ("cut", n), ("write", offset, hex), ("insert", offset, hex), ("remove", offset, n), ("copy", ...)."""
    if not data:
        return [("insert", 0, rng.choice(FIXED).hex())]
    is_text = all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in data[:2000])
    return [_edit(data, rng, is_text) for _ in range(rng.choice((1, 1, 1, 2, 4)))]


def _edit(data: bytes, rng: random.Random, is_text: bool) -> Edit:
    where = rng.randrange(len(data)) if rng.random() < 0.6 else rng.randrange(min(len(data), 400))
    kind = rng.random()
    if is_text and kind < 0.6:
        start, stop = _token(data, where)
        return ("replace", start, stop - start, rng.choice(NUMBERS + WORDS).encode().hex())
    if kind < 0.25:
        return ("write", where, bytes([data[where] ^ (1 << rng.randrange(8))]).hex())
    if kind < 0.5:
        return ("write", where, rng.choice(FIXED).hex())
    if kind < 0.65:
        return ("write", where, rng.randbytes(rng.choice((1, 2, 4, 8))).hex())
    if kind < 0.75:
        return ("cut", where)
    if kind < 0.85:
        return ("remove", where, rng.choice((1, 2, 8, 64, 1000)))
    if kind < 0.95:
        return ("insert", where, rng.choice([*FIXED, rng.randbytes(16)]).hex())
    return ("copy", where, rng.randrange(len(data)), rng.choice((4, 16, 256)))


def _token(data: bytes, where: int) -> tuple[int, int]:
    """The word, number or quoted text around a place."""
    ends = b' \n\t:,[]{}"'
    start = where
    while start > 0 and data[start - 1] not in ends:
        start -= 1
    stop = where
    while stop < len(data) and data[stop] not in ends:
        stop += 1
    if start > 0 and data[start - 1 : start] == b'"' and data[stop : stop + 1] == b'"':
        return start - 1, stop + 1
    return start, max(stop, start + 1)


def edited(data: bytes, edits: Sequence[Sequence[Any]]) -> bytes:
    for kind, where, *rest in edits:
        if kind == "cut":
            data = data[:where]
        elif kind == "write":
            data = data[:where] + bytes.fromhex(rest[0]) + data[where + len(rest[0]) // 2 :]
        elif kind == "insert":
            data = data[:where] + bytes.fromhex(rest[0]) + data[where:]
        elif kind == "remove":
            data = data[:where] + data[where + rest[0] :]
        elif kind == "replace":
            data = data[:where] + bytes.fromhex(rest[1]) + data[where + rest[0] :]
        else:
            source, length = rest
            data = data[:where] + data[source : source + length] + data[where + length :]
    return data


@dataclass
class Tally:
    outcomes: Counter = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    most_memory: int = 0
    slowest: float = 0.0


def run(name: str, count: int, seed: int, only: int | None = None, show: bool = False) -> Tally:
    """`count` mutants of one format."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "sample"
        _in_child(lambda: FORMATS[name].make(_made(sample)))
        numbers = [only] if only is not None else list(range(count))
        while numbers:
            numbers = _batch(name, sample, Path(folder), seed, numbers, tally, show)
    return tally


def mutant(format_: Format, sample: Path, seed: int, number: int) -> tuple[str, list[Edit], bool]:
    """(file, its edits, whether checksums above it are made anew)."""
    files = sorted({path for pattern in format_.files for path in sample.glob(pattern) if path.is_file()})
    rng = random.Random(f"{seed}-{number}")
    path = rng.choice(files)
    edits = recipe(path.read_bytes(), rng)
    return path.relative_to(sample).as_posix(), edits, rng.random() < 0.7


def try_one(name: str, sample: Path, work: Path, file: str, edits: Sequence[Sequence[Any]], is_resealed: bool) -> str:
    """ "read", "refused", or the traceback."""
    from whale.common.errors import WhaleError

    format_ = FORMATS[name]
    target = work / "m"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(sample, target)
    (target / file).write_bytes(edited((sample / file).read_bytes(), edits))
    if is_resealed:
        format_.resealed(target)
    try:
        format_.read(target)
    except WhaleError as error:
        text = str(error)
        assert error.file and len(text) < 20_000 and "\x1b" not in text, text[:3000]
        return "refused"
    except Exception:
        return traceback.format_exc()
    return "read"


def _batch(name: str, sample: Path, folder: Path, seed: int, numbers: list[int], tally: Tally, show: bool) -> list[int]:
    """The next of `numbers` in one child; returns those that are left (behind one that killed it)."""
    chosen = numbers[:BATCH]
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _child(name, sample, folder, seed, chosen, os.fdopen(write_end, "w", buffering=1), show)
    os.close(write_end)
    done, current, began = 0, None, (time.monotonic(), 0.0)
    lines, buffer = [], b""
    while True:
        ready, _, _ = select.select([read_end], [], [], 0.5)
        if ready:
            data = os.read(read_end, 1 << 16)
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                row = json.loads(line)
                if "start" in row:
                    current, began = row["start"], (time.monotonic(), _cpu(pid))
                elif "memory" in row:
                    tally.most_memory = max(tally.most_memory, row["memory"])
                else:
                    done += 1
                    tally.outcomes[row["outcome"]] += 1
                    tally.slowest = max(tally.slowest, row["seconds"])
                    if row["outcome"] not in ("read", "refused"):
                        tally.failures.append({"format": name} | row)
                    current = None
        elif current is not None and (_cpu(pid) - began[1] > CPU_SECONDS or time.monotonic() - began[0] > WALL_SECONDS):
            os.kill(pid, signal.SIGKILL)
    os.close(read_end)
    _, status = os.waitpid(pid, 0)
    if current is not None:
        outcome = "hang" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else "crash"
        tally.outcomes[outcome] += 1
        file, edits, is_resealed = mutant(FORMATS[name], sample, seed, current)
        said = f"status {status}"
        tally.failures.append({"format": name, "number": current, "outcome": outcome, "said": said, "file": file,
                               "edits": edits, "resealed": is_resealed})  # fmt: skip
        done += 1
    elif done < len(chosen):
        raise RuntimeError(f"{name}: the child ended between mutants, status {status}")
    return numbers[done:]


def _child(name: str, sample: Path, folder: Path, seed: int, numbers: list[int], out: Any, show: bool) -> None:
    heard: list[str] = []
    code = 1
    try:
        _quiet(show)
        _read_sample(name, sample, folder)  # all imports
        reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (reserved + MEMORY, reserved + MEMORY))
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sys.addaudithook(lambda event, args: _listen(event, args, heard))
        for number in numbers:
            file, edits, is_resealed = mutant(FORMATS[name], sample, seed, number)
            print(json.dumps({"start": number}), file=out, flush=True)
            began = time.process_time()
            said = try_one(name, sample, folder, file, edits, is_resealed)
            outcome = said if said in ("read", "refused") else "traceback"
            if heard or any(Path(each).exists() for each in (MARKER, folder / "m" / MARKER)):
                outcome, said = "executed", f"{heard} {said}"
                heard.clear()
            row = {"number": number, "outcome": outcome, "seconds": time.process_time() - began}
            if outcome not in ("read", "refused"):
                row |= {"said": said[-2500:], "file": file, "edits": edits, "resealed": is_resealed}
            print(json.dumps(row), file=out, flush=True)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
        print(json.dumps({"memory": grown * 1024}), file=out, flush=True)
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _read_sample(name: str, sample: Path, folder: Path) -> None:
    target = folder / "m"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(sample, target)
    FORMATS[name].read(target)


def _quiet(show: bool) -> None:
    import logging

    logging.disable(logging.CRITICAL)
    if not show:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)


def _listen(event: str, args: tuple, heard: list[str]) -> None:
    if event == "subprocess.Popen" and "whale.data.ingest.sources.hdf5" in str(args[1]):
        return
    if event in (
        "os.system",
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "pickle.find_class",
        "socket.connect",
    ):
        heard.append(f"{event} {args!r:.200}")
    elif event == "import" and MARKER in str(args[0]):
        heard.append(f"import {args[0]}")


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _in_child(work: Any) -> None:
    """So that no thread of a library lives in the process that forks."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the sample could not be made")


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """What once failed: (name, recipe)."""
    for path in sorted((HERE / "corpus").glob("*.json")):
        for number, row in enumerate(json.loads(path.read_text())):
            yield f"{path.stem}-{number}", row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=600, help="mutants of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=sorted(FORMATS), action="append", help="only these; all by default")
    parser.add_argument("--only", type=int, help="one mutant by its number")
    parser.add_argument("--show", action="store_true", help="print what each failure said")
    parser.add_argument("--keep", type=Path, help="append recipes of failures to this JSON file")
    given = parser.parse_args()
    whole, failures = Counter(), []
    print(
        f"{'format':<24}{'mutants':>8}{'read':>8}{'refused':>9}{'traceback':>11}{'crash':>7}{'hang':>6}{'ran':>5}{'MB':>7}{'s':>7}"
    )
    for name in given.format or FORMATS:
        tally = run(name, given.each, given.seed, given.only, given.show)
        got = tally.outcomes
        whole += got
        failures += tally.failures
        print(f"{name:<24}{got.total():>8}{got['read']:>8}{got['refused']:>9}{got['traceback']:>11}{got['crash']:>7}"
              f"{got['hang']:>6}{got['executed']:>5}{tally.most_memory / 1e6:>7.0f}{tally.slowest:>7.1f}", flush=True)  # fmt: skip
        for each in tally.failures if given.show else []:
            print(f"--- {each['number']} {each['outcome']} {each['file']} {str(each['edits'])[:300]}\n{each['said']}")
    print(f"{whole.total()} mutants: {dict(whole)}")
    if given.keep and failures:
        kept = json.loads(given.keep.read_text()) if given.keep.is_file() else []
        rows = [{key: each[key] for key in ("format", "file", "edits", "resealed")} for each in failures]
        given.keep.write_text("[\n" + ",\n".join(json.dumps(row) for row in [*kept, *rows]) + "\n]\n")
    return 1 if set(whole) - {"read", "refused"} else 0


if __name__ == "__main__":
    sys.exit(main())
