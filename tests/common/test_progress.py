"""What a person sees of a long loop: little in a log, one line on a terminal, and no guess that is wild."""

import io
from types import SimpleNamespace

import pytest

from whale.common.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """clock[0] is the time."""
    now = [100.0]
    monkeypatch.setattr("whale.common.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def run_loop(clock, seconds, file, total=None, name="train"):
    """One update after each of `seconds`."""
    with Progress(total or len(seconds), "steps", name, file) as bar:
        for each in seconds:
            clock[0] += each
            bar.update()
    return file.getvalue()


def test_a_loop_of_less_than_two_seconds_says_nothing(clock):
    assert run_loop(clock, [0.1] * 19, io.StringIO()) == run_loop(clock, [0.1] * 19, Terminal()) == ""


def test_a_log_has_a_line_at_the_start_then_one_a_tenth_or_half_a_minute_and_one_at_the_end(clock):
    lines = run_loop(clock, [1.0] * 100, io.StringIO()).splitlines()  # 100 s
    assert [int(line.split()[1].partition("/")[0]) for line in lines] == [2, *range(12, 100, 10), 100]
    assert lines[-1] == "train: 100/100 steps, 1:40 in all"
    lines = run_loop(clock, [1.0] * 1000, io.StringIO()).splitlines()  # a tenth is 100 s
    assert len(lines) == 1 + 998 // 30 + 1
    assert len(run_loop(clock, [1.0] * 20, io.StringIO()).splitlines()) == 2 + 3  # a tenth is 2 s, a line at least 5


def test_the_slow_first_step_is_in_no_guess_and_the_rest_is_guessed_once_it_is_known(clock):
    lines = run_loop(clock, [10.0] + [0.1] * 999, io.StringIO()).splitlines()
    assert lines[0] == "train: 1/1000 steps"
    assert lines[1] == "train: 101/1000 steps, 10/s, 1:30 left"
    lines = run_loop(clock, [1.0] * 1000, io.StringIO(), total=10**6).splitlines()
    assert "left" not in lines[0] and lines[1].endswith("/s, 277:46:08 left")  # 30 s are enough of any loop


def test_the_rate_follows_a_loop_that_changes_its_speed_and_counts_from_where_it_resumes(clock):
    file = io.StringIO()
    bar = Progress(1000, "steps", file=file)
    clock[0] += 100.0  # workers started
    bar.resume_at(400)
    for step in [20] * 5 + [1] * 90:
        clock[0] += 1.0
        bar.update(step)
    lines = file.getvalue().splitlines()
    assert lines[0] == "420/1000 steps, 20/s"  # 1 s of work, not 101; 20 steps, not 420
    assert lines[-1].startswith("5") and ", 1/s, " in lines[-1]  # the quick first seconds are forgotten


def test_a_terminal_has_one_line_that_is_written_over(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    said = run_loop(clock, [0.3] * 100, Terminal(), name="a_stage_with_a_long_name")
    assert said.count("\n") == 1 and said.endswith("\n")
    shown = said.rstrip("\n").split("\r\x1b[K")[1:]
    assert len(shown) > 20 and max(map(len, shown)) <= 29


def test_an_error_leaves_the_line_that_was_there_and_claims_no_end(clock):
    file = Terminal()
    with pytest.raises(ValueError), Progress(10, "steps", file=file) as bar:
        clock[0] += 5.0
        bar.update()
        raise ValueError
    assert "in all" not in file.getvalue() and file.getvalue().endswith("1/10 steps\n")
