"""The switches of every process of a stage."""

import multiprocessing
import os

import pytest

from whale.runtime.workers.process import environment


def compute():
    while True:
        sum(range(10_000))


@pytest.fixture
def busy_cores():
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=compute, daemon=True) for _ in range(2 * len(os.sched_getaffinity(0)))]
    for other in others:
        other.start()
    yield
    for other in others:
        other.kill()
        other.join()


def test_beside_busy_processes_waiting_threads_go_to_sleep_soon(busy_cores, tmp_path, monkeypatch):
    monkeypatch.setenv(environment.SPIN, "")
    monkeypatch.delenv(environment.SPIN)
    assert environment.cores_are_busy(2)
    environment.apply(tmp_path)
    assert os.environ[environment.SPIN] == environment.SOON_ASLEEP


def test_a_choice_of_the_users_stays(busy_cores, tmp_path, monkeypatch):
    monkeypatch.setenv(environment.SPIN, "7")
    environment.apply(tmp_path)
    assert os.environ[environment.SPIN] == "7"


def test_where_nobody_tells_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(environment, "_running", lambda: int("not a number"))
    assert not environment.cores_are_busy(2)
