"""Rate and remaining time of a long loop, to stderr, at most every 2 s."""

import sys
import time
from collections import deque
from typing import TextIO

WINDOW = 16  # lines, at least 30 s


class Progress:
    """`with run.progress(100, "episodes") as bar: bar.update()`; a loop of less than 2 s prints nothing.

    Rate and rest are those of the last `WINDOW` lines, so that they follow a loop that becomes slower or faster.
    """

    interval_seconds = 2.0

    def __init__(self, total: int, what: str, name: str = "", file: TextIO | None = None):
        self.total, self.what, self.name, self.file = total, what, name, file or sys.stderr
        self.done = 0
        self._printed_done: int | None = None
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=WINDOW)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._printed_done not in (None, self.done):
            self._print()

    def resume_at(self, done: int) -> None:
        """Work starts now, with `done` made before: neither they nor the time until now count in the rate."""
        self.done = done
        self._marks.clear()
        self._marks.append((time.monotonic(), done))

    def update(self, n: int = 1) -> None:
        """`n` more are done."""
        self.done += n
        if time.monotonic() - self._marks[-1][0] >= self.interval_seconds:
            self._print()

    def _print(self) -> None:
        now, (then, done_then) = time.monotonic(), self._marks[0]
        self._marks.append((now, self.done))
        self._printed_done = self.done
        rate = (self.done - done_then) / max(now - then, 1e-9)
        left = max(self.total - self.done, 0) / rate if rate > 0 else None
        eta = "" if left is None else f", {_clock(left)} left"
        name = f"{self.name}: " if self.name else ""
        text = f"{name}{self.done}/{self.total} {self.what}, {rate:.3g}/s{eta}"
        print(text, file=self.file, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
