"""How far a long loop is, to stderr: one line in place on a terminal, a line now and then in a log."""

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

MARK_SECONDS, MARKS = 2.0, 16  # the rate is that of the last 30 s
QUIET_SECONDS = 2.0  # a loop that is shorter says nothing
TERMINAL_SECONDS = 0.5
LOG_SECONDS, LOG_SHARE, LOG_LEAST_SECONDS = 30.0, 0.1, 5.0
KNOWN_SHARE, KNOWN_SECONDS = 0.05, 30.0  # of the loop, after its first part: then the rest can be guessed


class Progress:
    """`with run.progress(100, "episodes") as bar: bar.update()`.

    In a log: a line after 2 s, then one every 30 s or at each tenth, whichever comes first, and one at the end. The
    first part is not in the rate, since starting workers or a compiler is; the time left is said from then on, once a
    twentieth of the loop or 30 s have been measured.
    """

    def __init__(self, total: int, what: str, name: str = "", file: TextIO | None = None):
        self.total, self.what, self.name, self.file = total, what, name, file or sys.stderr
        self.done = 0
        self._in_place = self.file.isatty()
        self._started = self._printed = time.monotonic()
        self._printed_done: int | None = None
        self._start: tuple[float, int] | None = None  # of what is measured
        self._marks: deque[tuple[float, int]] = deque(maxlen=MARKS)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if self._printed_done is None:
            return
        if error is None:
            self._print(self._text(f"{_clock(time.monotonic() - self._started)} in all"))
        if self._in_place:
            print(file=self.file, flush=True)

    def resume_at(self, done: int) -> None:
        """Work starts now, with `done` made before: neither they nor the time until now count in the rate."""
        self.done = done
        self._measure_from(time.monotonic())

    def update(self, n: int = 1) -> None:
        """`n` more are done."""
        self.done += n
        now = time.monotonic()
        if self._start is None:
            self._measure_from(now)
        elif now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now, self.done))
        if self._is_time(now):
            self._printed, self._printed_done = now, self.done
            self._print(self._text(*self._speed(now)))

    def _measure_from(self, now: float) -> None:
        self._start = now, self.done
        self._marks.clear()
        self._marks.append(self._start)

    def _is_time(self, now: float) -> bool:
        if now - self._started < QUIET_SECONDS or self.done >= self.total:
            return False
        if self._in_place:
            return now - self._printed >= TERMINAL_SECONDS
        if self._printed_done is None:
            return True
        waited, share = now - self._printed, (self.done - self._printed_done) / max(self.total, 1)
        return waited >= LOG_SECONDS or (share >= LOG_SHARE and waited >= LOG_LEAST_SECONDS)

    def _speed(self, now: float) -> list[str]:
        """Rate, and the time left where it can be guessed."""
        then, done_then = self._marks[0]
        if self._start is None or now <= then or self.done <= done_then:
            return []
        rate = (self.done - done_then) / (now - then)
        seconds, share = now - self._start[0], (self.done - self._start[1]) / max(self.total, 1)
        is_known = seconds >= KNOWN_SECONDS or share >= KNOWN_SHARE
        return [f"{rate:.3g}/s", *([f"{_clock((self.total - self.done) / rate)} left"] if is_known else [])]

    def _text(self, *rest: str) -> str:
        name = f"{self.name}: " if self.name else ""
        return ", ".join([f"{name}{self.done}/{self.total} {self.what}", *rest])

    def _print(self, text: str) -> None:
        if not self._in_place:
            print(text, file=self.file, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be written over
        obeyed = getattr(self.file, "obeyed", self.file.write)
        obeyed("\r\x1b[K")
        print(text[:width], end="", file=self.file, flush=True)


@contextmanager
def polling(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """`look()` at what others do, every `seconds` in a thread while the body runs, and once more at its end.

    The first error of `look` is the last look, and is raised at the end unless the body raises one of its own.
    """
    is_over, errors = threading.Event(), list[Exception]()

    def once() -> None:
        try:
            look()
        except Exception as error:
            errors.append(error)

    def poll() -> None:
        while not errors and not is_over.wait(seconds):
            once()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        if not errors:
            once()
    if errors:
        raise errors[0]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
