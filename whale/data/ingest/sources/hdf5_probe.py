"""A first look at HDF5 files in a child: what loops for ever or breaks down inside of the library does so there.

The library follows whatever a file says, without the interpreter in between: no error of ours can end it (a damaged
heap of attributes looped for ever, found by tests/security/mutants.py). The child has time and memory for each file.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from whale.common.errors import BadDataError
from whale.common.json_files import parse_json
from whale.common.limits import PROBE_SECONDS, READING_BYTES

_passed: set[tuple[str, int, int]] = set()


def require_passable(paths: Sequence[Path], module: str) -> None:
    """BadDataError names the file that the library cannot get through; each is looked at once a process.

    module: run as a program, it calls `serve`."""
    fresh = [path for path in paths if _key(path) not in _passed]
    if not fresh:
        return
    asked = [json.dumps(str(path.absolute())) for path in fresh]  # a name may hold a newline
    done = subprocess.run(
        [sys.executable, "-m", module], input="".join(f"{each}\n" for each in asked),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, capture_output=True, text=True,
    )  # fmt: skip
    told = done.stdout.splitlines()
    if told != asked or done.returncode:
        passed = [number for number, each in enumerate(asked) if told[: number + 1] == asked[: number + 1]]
        raise BadDataError(
            "an HDF5 file that its library cannot get through", file=fresh[min(len(passed), len(fresh) - 1)],
            found=f"it ended with {done.returncode}: {done.stderr[-300:]}",
            expected=f"to be looked over within {PROBE_SECONDS} s", remedy="download it again, or leave it out",
        )  # fmt: skip
    _passed.update(map(_key, fresh))


def _key(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path.absolute()), found.st_size, found.st_mtime_ns


def serve(look_over: Callable[[Path], None]) -> None:
    """In the child: a path in JSON a line from stdin, each on stdout once it is through; errors are the reader's to
    tell."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").is_file() else 0
    if pages:
        limit = pages * resource.getpagesize() + READING_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        path = Path(parse_json(line, "stdin"))
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + PROBE_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        with suppress(Exception):
            look_over(path)
        print(line.rstrip("\n"), flush=True)
