"""Temporary files of killed writers go; those of the living, and whatever has another name, stay."""

import os
import subprocess
import sys
from pathlib import Path

from whale.runtime.guard.leftovers import remove_files_of_the_dead


def pid_of_the_dead() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def touched(project: Path, name: str) -> Path:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_files_of_dead_writers_go_and_those_of_living_ones_stay(tmp_path):
    dead, living = pid_of_the_dead(), os.getppid()
    gone = [
        touched(tmp_path, f"lineage/.HEAD.tmp-{dead}-{'a' * 32}"),
        touched(tmp_path, f"lineage/runs/12ab/.timings.json.tmp-{dead}-{'b' * 32}"),
        touched(tmp_path, f".whale/.verify-cache.json.tmp-{dead}"),
        touched(tmp_path, f"work/demo/train_dynamics@full/12ab/.fit.json.tmp-{dead}-{'c' * 32}"),
    ]
    kept = [
        touched(tmp_path, f"lineage/runs/12ab/.timings.json.tmp-{living}-{'d' * 32}"),
        touched(tmp_path, f"lineage/runs/12ab/timings.json.tmp-{dead}"),
        touched(tmp_path, f"artifacts/demo/.model.tmp-{dead}-{'e' * 32}"),
        touched(tmp_path, "lineage/runs/12ab/.hidden"),
    ]
    assert remove_files_of_the_dead(tmp_path) == sorted(gone)
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)
    assert remove_files_of_the_dead(tmp_path) == []
