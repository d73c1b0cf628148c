"""F16, F17: a stage dies with the DVC that started it, publishes nothing half, and nobody writes beside it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DVC = str(Path(sys.executable).parent / "dvc")
STAGE = """
import os, subprocess, time
from pathlib import Path
from whale.common.stage_args import StageArgs

class Args(StageArgs):
    source: Path

def run(args, run):
    (run.out / "part").write_text("x" * 1000)
    (run.work / "steps").open("a").write("1")
    if not Path("finish").exists():
        child = subprocess.Popen(["sleep", "3000"])
        Path("pids").write_text(f"{os.getpid()} {child.pid}")
        while True:
            sum(range(1000))
"""
DVC_YAML = """
stages:
  toy:
    cmd: python -m whale.run toy --source source.txt --out artifacts/demo/toy
    deps: [source.txt]
    outs: [artifacts/demo/toy]
"""


@pytest.fixture
def repository(tmp_path):
    """A DVC project without git, whose one stage computes for ever unless a file named `finish` exists."""
    for name, text in {"pipelines/toy.py": STAGE, "dvc.yaml": DVC_YAML, "source.txt": "raw"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pipelines/__init__.py").touch()
    (tmp_path / ".dvc").mkdir()
    site = tmp_path / ".dvc" / "tmp" / "site"
    settings = (
        f"[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n    site_cache_dir = {site}\n"
    )
    (tmp_path / ".dvc" / "config").write_text(settings)
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    return tmp_path


def environment(shell):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    return clean | {"PATH": path, "PYTHONPATH": str(ROOT), "SHELL": shell, "DVC_NO_ANALYTICS": "1"}


def start_dvc(repository, shell="/bin/sh"):
    """Start `dvc repro` as a shell would (a group of its own); returns it and the pids of stage and grandchild."""
    options = {"cwd": repository, "env": environment(shell), "stdout": subprocess.DEVNULL, "process_group": 0}
    process = subprocess.Popen([DVC, "repro"], stderr=subprocess.DEVNULL, **options)
    deadline = time.monotonic() + 600
    while not (repository / "pids").exists() or len((repository / "pids").read_text().split()) < 2:
        assert time.monotonic() < deadline and process.poll() is None, "the stage did not start"
        time.sleep(0.02)
    return process, [int(pid) for pid in (repository / "pids").read_text().split()]


def seconds_until_gone(pids, limit=120.0):
    started = time.monotonic()
    while any(is_running(pid) for pid in pids):
        if time.monotonic() - started > limit:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            pytest.fail(f"still running after {limit} s: {pids}")
        time.sleep(0.01)
    return time.monotonic() - started


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux' pidfd")


@needs_proc
@pytest.mark.parametrize(
    ("number", "shell"), [(signal.SIGKILL, "/bin/sh"), (signal.SIGTERM, "/bin/bash"), (signal.SIGINT, "/bin/sh")]
)
def test_stage_and_grandchild_end_with_dvc_and_publish_nothing(repository, number, shell):
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    process, pids = start_dvc(repository, shell)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # what Ctrl-C does: everybody in the terminal's group
    else:
        process.send_signal(number)
    seconds_until_gone(pids)
    process.wait(timeout=300)
    assert not (repository / "artifacts/demo/toy").exists()


@needs_proc
def test_a_second_start_is_refused_while_the_first_runs_and_the_next_one_continues(repository):
    process, pids = start_dvc(repository)
    command = [sys.executable, "-m", "whale.run", "toy", "--source", "source.txt", "--out", "artifacts/demo/toy"]
    second = subprocess.run(command, cwd=repository, env=environment("/bin/sh"), capture_output=True, text=True)
    assert second.returncode == 75
    assert f"pid {pids[0]}" in second.stderr and "Traceback" not in second.stderr
    process.kill()
    process.wait()
    seconds_until_gone(pids)
    (repository / "finish").touch()
    done = subprocess.run([DVC, "repro"], cwd=repository, env=environment("/bin/sh"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (repository / "artifacts/demo/toy/MANIFEST.json").is_file()
    assert not list((repository / "artifacts/demo").glob(".*"))
    (steps,) = repository.glob("work/demo/toy/*/steps")
    assert steps.read_text() == "11"  # the second run found the state of the killed one
