"""Make a virtual environment and install the project into it: little on the screen, everything in <venv>/install.log.

By uv where it is there, which takes a tenth of pip's time; by pip alone on a machine that has nothing else, or where uv
fails (it does not read pip's settings, so it may look at another index). constraints.txt pins every version and names
no host. With `validators` as second argument, the packages of tests/validators.txt go to <venv>/validators instead,
where only the tests that ask for them see them.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

INTERVAL_SECONDS, TERMINAL_SECONDS = 60.0, 1.0  # between two lines of a log, and of the one line of a terminal
PIP_OPTIONS = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]


def main() -> int:
    target = Path(sys.argv[1])
    if sys.argv[2:] == ["validators"]:
        folder = target / "validators"  # made new, so that what lies there is what the list says
        shutil.rmtree(folder, ignore_errors=True)
        print("installing the stock validators (about 15 s)", flush=True)
        return _install(target, ["--no-deps", "--target", str(folder), "-r", "tests/validators.txt"], "validators.log")
    if sys.version_info[:2] != (3, 11):
        found = f"{sys.version_info.major}.{sys.version_info.minor} ({sys.executable})"
        print(f"error: this project needs Python 3.11\n  found:    {found}", file=sys.stderr)
        print("  remedy:   install Python 3.11, or say: make PYTHON=/path/to/python3.11 ...", file=sys.stderr)
        return 64
    if not (target / "bin" / "python").exists():
        print(f"making {target}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
    print("installing (about 4 GB; 2 to 7 minutes the first time)", flush=True)
    return _install(target, ["-c", "constraints.txt", "-e", ".[all,dev]"], "install.log")


def _install(target: Path, what: list[str], log_name: str) -> int:
    """By the first installer that ends well; the exit code of the last one."""
    python, log = str(target / "bin" / "python"), target / log_name
    if uv := shutil.which("uv"):
        if _follow([uv, "pip", "install", "--python", python, *what], log) == 0:
            return 0
        print(f"uv failed, pip is tried: {_last_lines(log, 1).strip()[:200]}", flush=True)
    if code := _follow([python, "-m", "pip", "install", *PIP_OPTIONS, *what], log):
        print(f"{_last_lines(log, 30)}error: pip failed; its whole output is in {log}", file=sys.stderr)
    return code


def _follow(command: list[str], log: Path) -> int:
    """Run an installer, its output into `log`; a line says how far it is, in place on a terminal. Its exit code."""
    started, in_place = time.monotonic(), sys.stdout.isatty()
    with open(log, "w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        while True:
            try:
                code = process.wait(TERMINAL_SECONDS if in_place else INTERVAL_SECONDS)
                print(end="\n" if in_place else "")
                return code
            except subprocess.TimeoutExpired:
                text = f"  {time.monotonic() - started:4.0f} s  {_last_lines(log, 1).strip()[:100]}"
                print(f"\r\x1b[K{text}" if in_place else text, end="" if in_place else "\n", flush=True)


def _last_lines(log: Path, number: int) -> str:
    return "".join(log.read_text(errors="replace").splitlines(keepends=True)[-number:])


if __name__ == "__main__":
    sys.exit(main())
