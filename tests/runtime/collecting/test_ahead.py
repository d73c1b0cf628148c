import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from whale.common.errors import BadDataError, WorkerLostError
from whale.runtime.collecting.ahead import made_ahead


def square(number: int) -> tuple[int, int]:
    if number == 3:
        raise BadDataError("three", found=number)
    time.sleep(0.05 if number % 2 else 0.0)
    return number**2, os.getpid()


def test_items_come_in_order_from_other_processes():
    with made_ahead(square, ((number,) for number in (0, 5, 2, 7, 4))) as items:
        made = list(items)
    assert [value for value, _ in made] == [0, 25, 4, 49, 16]
    assert os.getpid() not in {pid for _, pid in made}


def test_an_error_is_raised_at_its_place():
    with made_ahead(square, [(1,), (3,), (2,)]) as items:
        assert next(items)[0] == 1
        with pytest.raises(BadDataError, match="three") as caught:
            next(items)
    assert caught.value.found == 3


def test_no_more_than_twice_the_workers_are_asked_for_ahead():
    asked = []

    def calls():
        for number in (0, 2, 4, 6, 8, 10):
            asked.append(number)
            yield (number,)

    with made_ahead(square, calls(), workers=1) as items:
        assert asked == [0, 2]
        next(items)
        assert asked == [0, 2, 4]


def sleep_long(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)


def workers_in(folder: Path, number: int) -> list[int]:
    until = time.monotonic() + 300
    while len(found := [int(path.name) for path in folder.iterdir()]) < number:
        assert time.monotonic() < until, "workers did not start"
        time.sleep(0.02)
    return found


def assert_gone(pids: list[int]) -> None:
    until = time.monotonic() + 300
    while left := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < until, f"left behind: {left}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_body_that_fails_waits_for_nobody(tmp_path):
    with (
        pytest.raises(BadDataError, match="disk"),
        made_ahead(sleep_long, [(str(tmp_path),)] * 5),
    ):
        pids = workers_in(tmp_path, 2)
        raise BadDataError("disk full")
    assert_gone(pids)


def test_a_worker_that_is_killed_is_named_and_so_is_what_to_do(tmp_path):
    with (
        pytest.raises(WorkerLostError, match="run it again"),
        made_ahead(sleep_long, [(str(tmp_path),)] * 2) as items,
    ):
        os.kill(workers_in(tmp_path, 2)[0], signal.SIGKILL)
        next(items)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = "import sys, test_ahead as t\nwith t.made_ahead(t.sleep_long, [(sys.argv[1],)] * 4) as items: next(items)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    pids = workers_in(tmp_path, 2)
    parent.kill()
    parent.wait()
    assert_gone(pids)
