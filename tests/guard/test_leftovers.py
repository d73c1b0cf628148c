"""Temporary files of killed writers go; those of the living, and whatever has another name, stay."""

import os
import subprocess
import sys
from pathlib import Path

from whale.common.files import FOREIGN_SECONDS, HOST
from whale.guard.leftovers import clear_after_the_dead


def temporary(name: str, pid: int, host: str = HOST, kind: str = "tmp") -> str:
    return f".{name}.{kind}-{host}-{pid}-{'a' * 32}"


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
        touched(tmp_path, f"lineage/{temporary('HEAD', dead)}"),
        touched(tmp_path, f"lineage/runs/12ab/{temporary('timings.json', dead)}"),
        touched(tmp_path, f".whale/{temporary('verify-cache.json', dead, kind='old')}"),
        touched(tmp_path, f"work/demo/train_dynamics@full/12ab/{temporary('fit.json', dead)}"),
        touched(tmp_path, f"artifacts/demo/{temporary('mix', dead)}"),
        touched(tmp_path, f"artifacts/demo/data/pretrain/shards/{temporary('full', dead)}"),
    ]
    kept = [
        touched(tmp_path, f"lineage/runs/12ab/{temporary('timings.json', living)}"),
        touched(tmp_path, f"lineage/runs/12ab/{temporary('timings.json', dead)[1:]}"),
        touched(tmp_path, f"artifacts/demo/models/{temporary('full', living)}"),
        touched(tmp_path, "lineage/runs/12ab/.hidden"),
    ]
    assert clear_after_the_dead(tmp_path) == sorted(gone)
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)
    assert clear_after_the_dead(tmp_path) == []


def test_a_folder_of_a_dead_replay_goes_whole_and_a_link_takes_nothing_with_it(tmp_path):
    run = tmp_path / "work/demo/train_dynamics@full/12ab"
    state = touched(run, f"{temporary('again', pid_of_the_dead())}/step-00000004/state.json")
    living = touched(run, f"{temporary('again', os.getppid())}/step-00000004/state.json")
    kept = touched(run, "states/step-00000004/state.json")
    link = run / temporary("link", pid_of_the_dead())
    link.symlink_to(kept.parent)
    assert clear_after_the_dead(tmp_path) == sorted([state.parents[1], link])
    assert living.exists() and kept.exists() and not state.parents[1].exists() and not link.is_symlink()


def test_another_machine_is_given_a_day(tmp_path):
    """Its processes cannot be asked after: a shared folder must not lose what they are just writing."""
    fresh = touched(tmp_path, f"lineage/{temporary('HEAD', pid_of_the_dead(), host='0' * 8)}")
    old = touched(tmp_path, f"lineage/{temporary('HEAD', os.getppid(), host='1' * 8)}")
    os.utime(old, (old.stat().st_mtime - FOREIGN_SECONDS - 1,) * 2)
    assert clear_after_the_dead(tmp_path) == [old]
    assert fresh.exists()
