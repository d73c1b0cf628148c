"""What worker processes open counts as the stage's own reading."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from whale.guard import opened_files
from whale.runtime.workers.process import worker


def read_as_worker(paths: list[str], imported: str | None) -> None:
    worker.listen_in_worker()
    for path in paths:
        Path(path).read_bytes()
    if imported:
        import importlib.util

        spec = importlib.util.spec_from_file_location("extra", imported)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    os.kill(os.getpid(), 9)  # a worker may end at any time


def work(paths: list[Path], imported: Path | None = None) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = ([str(path) for path in paths], imported and str(imported))
    worker = context.Process(target=read_as_worker, args=arguments)
    worker.start()
    worker.join()
    assert worker.exitcode == -9


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(opened_files.WORKERS, "")
    monkeypatch.setattr(worker, "_is_listening", True)  # a hook of this process would stay for other tests
    for name in ("artifacts/in/a", "artifacts/other/b", "whale/known.py", "whale/extra.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("VALUE = 1\n")
    opened_files.await_workers(tmp_path / "work/opened")
    return tmp_path


def found(project: Path) -> dict:
    return opened_files.report(project, project, [Path("whale/known.py")], [Path("artifacts/in")], [])


def test_a_killed_workers_reading_is_known_and_what_is_not_declared_named(project):
    work([project / "artifacts/in/a"])
    assert (found(project)["workers"], found(project)["undeclared_files"]) == (1, [])
    work([project / "artifacts/in/a", Path("artifacts/other/b")])
    assert (found(project)["workers"], found(project)["undeclared_files"]) == (2, ["artifacts/other/b"])


def test_a_template_of_the_closure_is_declared(project):
    template = project / "whale/templates/page.html"
    template.parent.mkdir()
    template.write_text("")
    work([template])
    assert found(project)["undeclared_files"] == ["whale/templates/page.html"]
    closure = [Path("whale/known.py"), Path("whale/templates/page.html")]
    assert opened_files.report(project, project, closure, [], [])["undeclared_files"] == []


def test_a_module_that_only_a_worker_imports_is_named_from_source_or_bytecode(project):
    work([], project / "whale/known.py")
    assert found(project)["undeclared_modules"] == []
    for _ in range(2):
        opened_files.await_workers(project / "work/opened")
        work([], project / "whale/extra.py")
        assert found(project)["undeclared_modules"] == ["whale/extra.py"]


def test_a_package_that_only_fetches_names_on_demand_is_no_undeclared_module_and_one_that_runs_is(project):
    for text, expected in (
        ("def __getattr__(name):\n    raise AttributeError\n", []),
        ("import os\n", ["whale/__init__.py"]),
    ):
        opened_files.await_workers(project / "work/opened")
        (project / "whale/__init__.py").write_text(text)
        work([], project / "whale/__init__.py")
        assert found(project)["undeclared_modules"] == expected


def test_what_an_earlier_run_left_is_forgotten_and_outside_of_a_stage_nobody_listens(project):
    work([project / "artifacts/other/b"])
    opened_files.await_workers(project / "work/opened")
    assert found(project)["workers"] == 0
    os.environ[opened_files.WORKERS] = str(project / "nowhere")
    work([project / "artifacts/other/b"])
    assert (found(project)["workers"], found(project)["undeclared_files"]) == (0, [])


NUMBERS_RETURN = """
import sys, threading
from whale.guard import opened_files
from whale.runtime.workers.process import worker
def read(name, numbers):
    open(name).read()
    numbers.add(threading.get_ident())
def read_unheard(name, numbers):
    with opened_files.unheard():
        read(name, numbers)
def run(target, *arguments):
    thread = threading.Thread(target=target, args=arguments)
    thread.start()
    thread.join()
worker.listen()
guards, stages = set(), set()
run(read_unheard, sys.argv[1], guards)
for _ in range(5000):  # a busy machine may give the number back late
    run(read, sys.argv[2], stages)
    if guards & stages:
        break
assert guards & stages, "no thread got the number of the first"
print([name in worker.opened for name in sys.argv[1:]])
"""


def test_only_the_guards_own_thread_is_unheard_not_a_later_one_with_its_number(tmp_path):
    names = [tmp_path / "guard", tmp_path / "stage"]
    for name in names:
        name.touch()
    command = [sys.executable, "-c", NUMBERS_RETURN, *map(str, names)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[False, True]\n"
