"""One contender per process, bound to some cores, with its own clock: what every benchmark here uses."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]


def machine() -> str:
    """CPU model, cores, load: a figure without its machine is none."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{model}; {os.cpu_count()} cores; Python {platform.python_version()}; load {load}"


def bound_to(cores: int) -> None:
    """Use the first `cores` cores only, where the system can bind a process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def timed(body: Callable[[], int]) -> dict[str, Any]:
    """`body` returns how many items it made; wall and CPU seconds of this process and its children, peak memory."""
    wall, before = time.perf_counter(), cpu_seconds()
    items = body()
    took = {"items": items, "wall_s": time.perf_counter() - wall, "cpu_s": cpu_seconds() - before}
    return took | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def cpu_seconds() -> float:
    """User and system time of this process and its ended children."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def rss_mb() -> float:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def contender(script: str, *arguments: str, timeout: float = 300) -> dict[str, Any]:
    """Run `script` as a process of its own and read the JSON object on its last line."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"TF_ENABLE_ONEDNN_OPTS": "0"}
    command = [sys.executable, "-W", "ignore", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Clock:
    """CPU seconds of one contender: best and median over all rounds."""

    best: float
    median: float

    @classmethod
    def over(cls, seconds: Sequence[float]) -> Self:
        return cls(min(seconds), statistics.median(seconds))


def take_turns(
    script: str, names: Sequence[str], rounds: int, warm_up: int = 3
) -> tuple[dict[str, float], dict[str, Clock]]:
    """Start `script --contender NAME` for each, let them step in turn; what each said first, and its clock.

    In processes of their own one contender's memory is no help and no burden to the next; noise of the machine hits
    all alike.
    """
    children = {
        name: subprocess.Popen(
            [sys.executable, "-W", "ignore", script, "--contender", name],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in names
    }  # fmt: skip
    try:
        said = {name: _number(child) for name, child in children.items()}
        times: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds + warm_up):
            for name, child in children.items():
                print("step", file=child.stdin, flush=True)
                took = _number(child)
                if number >= warm_up:
                    times[name].append(took)
        return said, {name: Clock.over(values) for name, values in times.items()}
    finally:
        for child in children.values():
            child.kill()
            child.wait()


def serve_steps(said: float, step: Callable[[], object]) -> None:
    """The other side of `take_turns`: a number, then the CPU seconds of a step for every line read."""
    print(repr(float(said)), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        step()
        print(repr(time.process_time() - start), flush=True)


def _number(child: "subprocess.Popen[str]") -> float:
    assert child.stdout is not None
    if not (line := child.stdout.readline()):
        raise SystemExit(f"{child.args} ended with {child.wait()}")
    return float(line)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []
