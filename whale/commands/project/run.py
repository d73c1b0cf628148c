"""`whale run`: `dvc repro`, with the data stages of different datasets side by side.

DVC runs one stage after the other. But it frees its lock while a stage's command runs, and locks the paths that the
stage reads and writes, so that several `dvc repro --single-item` may go at once; each takes the lock again to write
dvc.lock. whale/planning/waves.py says which may go at once. What a stage writes does not depend on what runs beside
it.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from whale.commands.project.plan import dvc_status
from whale.common.errors import ConfigError, WhaleError
from whale.guard.experiment import start_run

EXAMPLE = "Example: whale run --jobs 4"
LOGS = Path(".whale/run")
FAILED = 255  # as `dvc repro` says it
SHOWN = 12  # last lines of a log that are shown when its stage failed


class StageFailedError(WhaleError):
    """A stage ended badly; its own code and message stand in its log."""

    exit_code = FAILED


def run(
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Data stages that run at once")] = 2,
    dry: Annotated[bool, typer.Option("--dry", help="Only say which would run at once first.")] = False,
) -> None:
    """Run what is out of date, data stages side by side. With the bytes and the dvc.lock of `dvc repro`.

    Each process of N needs its own memory (`whale plan` says how much); stop and start again as with `dvc repro`.
    """
    from whale.pipeline_file import PIPELINE, nodes_of
    from whale.planning.waves import SIDE_BY_SIDE, next_wave

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, and ends what was started
    nodes = nodes_of(Path())
    if not nodes:
        raise ConfigError("no pipeline here", file=PIPELINE, expected="dvc.yaml and params.yaml",
                          remedy="run it from the project's root")  # fmt: skip
    start_run()
    ran: set[str] = set()
    while wave := next_wave(nodes, set(dvc_status()), ran):
        together = wave[0].stage in SIDE_BY_SIDE
        if dry:
            print(f"{jobs if together else 1} at once: {', '.join(node.name for node in wave)}")
            return
        _run_wave([node.name for node in wave], jobs if together else 1)
        ran.update(node.name for node in wave)
    command = [sys.executable, "-m", "dvc", "repro", *(["--dry"] if dry else [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)  # all that is left, and the proof that it is all


def _run_wave(names: Iterable[str], jobs: int) -> None:
    """Every stage of a wave; after a failure no other is started, and those that run come to their end."""
    LOGS.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    started_ones: list[subprocess.Popen[bytes]] = []

    def one(name: str) -> None:
        if failed:
            return
        started = time.monotonic()
        print(f"{name}: started, log in {LOGS / name}.log", flush=True)
        if _repro(name, started_ones) != 0:
            failed.append(name)
        else:
            print(f"{name}: done in {time.monotonic() - started:.1f} s", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(one, names))
        except BaseException:  # a signal: nobody else is in charge of them
            failed.append("")
            for process in started_ones:
                process.terminate()
            raise
    if failed:
        log = LOGS / f"{failed[0]}.log"
        last = log.read_text(errors="replace").replace("\r", "\n").strip().splitlines()[-SHOWN:]
        raise StageFailedError("a stage failed", file=log, place=", ".join(failed), found="\n            ".join(last),
                         remedy="correct it and start again: what is done stays done")  # fmt: skip


def _repro(name: str, started: list[subprocess.Popen[bytes]]) -> int:
    """DVC's exit code; the lock is another DVC's for a moment at its start and at its end."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
    with open(LOGS / f"{name}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        started.append(process)
        return process.wait()
