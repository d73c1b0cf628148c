"""Make a virtual environment and install the project into it: little on the screen, everything in <venv>/install.log.

Plain Python and pip, so that a fresh machine needs nothing else. constraints.txt pins every version and names no host:
packages come from whatever index this machine's pip is set to. With `validators` as second argument, the packages of
tests/validators.txt go to <venv>/validators instead, where only the tests that ask for them see them.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

LOUD = ("ERROR", "Installing collected")
INTERVAL_SECONDS, TERMINAL_SECONDS = 60.0, 1.0  # between two lines of a log, and of the one line of a terminal


def main() -> int:
    target = Path(sys.argv[1])
    if sys.argv[2:] == ["validators"]:
        return _install_validators(target)
    if sys.version_info[:2] != (3, 11):
        found = f"{sys.version_info.major}.{sys.version_info.minor} ({sys.executable})"
        print(f"error: this project needs Python 3.11\n  found:    {found}", file=sys.stderr)
        print("  remedy:   install Python 3.11, or say: make PYTHON=/path/to/python3.11 ...", file=sys.stderr)
        return 64
    python = target / "bin" / "python"
    if not python.exists():
        print(f"making {target}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
    print("installing (about 4 GB; 2 to 7 minutes the first time)", flush=True)
    return _follow([*_pip(target), "-c", "constraints.txt", "-e", ".[all,dev]"], target / "install.log")


def _install_validators(target: Path) -> int:
    """Anew, so that what lies there is what the list says; the list is whole, so nothing is resolved."""
    folder = target / "validators"
    shutil.rmtree(folder, ignore_errors=True)
    print("installing the stock validators (about 15 s)", flush=True)
    options = ["--no-deps", "--target", str(folder), "-r", "tests/validators.txt"]
    return _follow([*_pip(target), *options], target / "validators.log")


def _pip(target: Path) -> list[str]:
    pip = [str(target / "bin" / "python"), "-m", "pip", "install"]
    return [*pip, "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]


def _follow(command: list[str], log_path: Path) -> int:
    """Run pip, its output into the log; a line says how far it is, in place on a terminal, also while pip is silent."""
    started = printed = time.monotonic()
    count, doing, tail = 0, "", list[str]()
    in_place = sys.stdout.isatty()
    interval = TERMINAL_SECONDS if in_place else INTERVAL_SECONDS
    with open(log_path, "w") as log, subprocess.Popen(command, stdout=-1, stderr=-2, text=True) as process:
        lines: SimpleQueue[str | None] = SimpleQueue()
        Thread(target=_pass_on, args=(process.stdout or (), lines), daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=interval)
            except Empty:
                line = ""
            if line is None:
                break
            log.write(line)
            tail = [*tail, line][-30:]
            count += line.startswith("Collecting")
            doing = "writing files" if line.startswith("Installing collected") else doing
            now = time.monotonic()
            if line.startswith(LOUD) or now - printed >= interval:
                printed = now
                text = f"  {now - started:4.0f} s  {doing or f'{count} packages resolved'}"
                print(f"\r\x1b[K{text}" if in_place else text, end="" if in_place else "\n", flush=True)
    if in_place:
        print()
    if process.returncode:
        print("".join(tail), f"error: pip failed; its whole output is in {log_path}", file=sys.stderr)
    return process.returncode


def _pass_on(output: Iterable[str], lines: "SimpleQueue[str | None]") -> None:
    """Each line as it comes, None at the end."""
    for line in output:
        lines.put(line)
    lines.put(None)


if __name__ == "__main__":
    sys.exit(main())
