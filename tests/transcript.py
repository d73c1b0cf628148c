"""The console blocks of a page, replayed in the current folder, digests and times masked.

`python tests/transcript.py PROJECT [PAGE]` writes the answers of a page again (if none is named, the auditor's), from a
project that tests/test_pipeline.py made. `...` stands for any lines, or at the end of one for its rest.
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "how-to" / "audit-a-checkpoint.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
MASKS = (
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "DIGEST"),
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.+]+"), "TIME"),
    (re.compile(r"-?\d+\.\d+(e-\d+)?"), "NUMBER"),  # the last digits of a training depend on the processor
    (re.compile(r"\b\d+ (hashed )?files?\b"), "N files"),  # of an import closure, of records: grows with the program
    (re.compile(r"^(python|platform|processor|memory_mb|cpus_allowed|torch_threads): .*$", re.MULTILINE), r"\1: HERE"),
    (re.compile(r"([ -])\1+"), r"\1"),  # and with them the width of a column
)
MAX_LINES = {"diff": 18, "env": 7}  # what follows differs between machines, or with each change of the program
MAX_WIDTH = 132


def steps(document: str) -> list[tuple[str, str]]:
    """(command, what it prints) of every `$ ` line in the console blocks, in order."""
    found = []
    for block in BLOCK.findall(document):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, said = part.partition("\n")
            found.append((command, said))
    return found


def answer(command: str) -> str:
    """What a person sees in a terminal, and the exit code if it is not 0."""
    from whale.cli import run

    out = io.StringIO()
    if command.startswith("whale "):
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = run(shlex.split(command)[1:])
    else:
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
        out.write(done.stdout + done.stderr)
        code = done.returncode
    return out.getvalue() + (f"[exit code {code}]\n" if code else "")


def agree(said: str, got: str) -> bool:
    return doctest.OutputChecker().check_output(masked(said), masked(got), doctest.ELLIPSIS)


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


def shortened(said: str, lines: int) -> str:
    """At most `lines` lines, none longer than MAX_WIDTH; a cut is at a space, where `...` can stand."""
    rows = [
        row if len(row) <= MAX_WIDTH else f"{row[: MAX_WIDTH - 4].rpartition(' ')[0].rstrip()} ..."
        for row in said.splitlines()
    ]
    return "\n".join(rows if len(rows) <= lines else [*rows[: lines - 1], "..."]) + "\n"


def lines_of(command: str) -> int:
    return 40 if command.endswith("--params") else MAX_LINES.get((command.split() + [""] * 3)[2], 40)


def rewrite(project: Path, page: Path = DOCUMENT) -> None:
    text = page.read_text(encoding="ascii")
    os.chdir(project)

    def replay(block: re.Match[str]) -> str:
        answers = [f"$ {command}\n{shortened(answer(command), lines_of(command))}" for command, _ in steps(block[0])]
        return f"```console\n{''.join(answers)}```"

    page.write_bytes(BLOCK.sub(replay, text).encode("ascii"))  # a page is not emptied by an answer that it cannot hold


if __name__ == "__main__":
    rewrite(*(Path(each).absolute() for each in sys.argv[1:]))
