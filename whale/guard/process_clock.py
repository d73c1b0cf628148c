"""How long this process lives, and how much of that is the stage's own work."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ProcessClock:
    """Wall time since the process started (interpreter start and imports count), and the shares marked as compute
    and as capture: what lineage costs."""

    def __init__(self) -> None:
        self.compute_s = self.capture_s = 0.0
        self._depth = 0

    @contextmanager
    def compute(self) -> Iterator[None]:
        """Time inside counts as compute; a nested block counts once."""
        started, self._depth = time.monotonic(), self._depth + 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.compute_s += time.monotonic() - started

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Time inside is what it takes to prove inputs, seal outputs and record the run."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.capture_s += time.monotonic() - started

    def add_compute(self, seconds: float) -> None:
        """Work measured elsewhere, e.g. in a worker process."""
        self.compute_s += seconds

    def report(self) -> dict[str, float]:
        """Seconds, and the peak resident memory of this process and of its biggest child in MB."""
        wall = seconds_since_process_start()
        peak_kb = {
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "peak_child_rss_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        }
        return {
            "wall_s": round(wall, 3),
            "compute_s": round(self.compute_s, 3),
            "overhead_s": round(max(wall - self.compute_s, 0.0), 3),
            "capture_s": round(self.capture_s, 3),
            **{name: round(value / 1024, 1) for name, value in peak_kb.items()},
        }


def seconds_since_process_start() -> float:
    """From /proc/self/stat, to 0.01 s; where there is no /proc, since this module was imported."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic() - _IMPORTED
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


_IMPORTED = time.monotonic()
