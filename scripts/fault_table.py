"""Every injected fault and what came of it: right, clear error, silent. Exit 1 when one is silent.

python scripts/fault_table.py [--kills 50] [--only training]
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# Faults that are a grid of tests: what is injected, pytest's arguments. (An empty -m takes the nightly ones as well.)
DATA_GRIDS = {
    "F22": ("a bucket that truncates, drops, refuses, lies", "tests/data/workbench/test_fetch.py"),
}
TRAINING_GRIDS = {
    "F10": ("resume at k in {0, 1, mid, last-1, epoch end, epoch 2}", "tests/training/test_resume.py -k bit_equal"),
    "F11": ("resume on 1, 2, 4 workers after 1 and 2", "tests/training/test_resume.py -k workers"),
    "F17": ("SIGKILL, SIGTERM, SIGINT of dvc repro", "tests/faults/test_killed_stage.py"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="moments at which a writer of shards is killed")
    parser.add_argument("--only", choices=["data", "training"])
    options = parser.parse_args()
    os.environ["WHALE_FAULT_KILLS"] = str(options.kills)
    os.environ.setdefault("WHALE_FAULT_SECONDS", "60")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from faults.outcomes import CLEAR, RIGHT, SILENT

    counts: dict[str, Counter] = {}
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for fault in faults(options.only):
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            result = fault.run(Path(folder))
        counts.setdefault(fault.number, Counter())[result] += 1
        print(f"{fault.number:4} {fault.name:60} {result:12} {time.monotonic() - started:6.1f} s", flush=True)
    total: Counter = sum(counts.values(), Counter())
    print(f"\n{'':6}{'faults':>7}{RIGHT:>7}{CLEAR:>13}{SILENT:>8}")
    for number, found in sorted(counts.items(), key=lambda pair: int(pair[0][1:])):
        print(f"{number:6}{found.total():7}{found[RIGHT]:7}{found[CLEAR]:13}{found[SILENT]:8}")
    print(f"{'all':6}{total.total():7}{total[RIGHT]:7}{total[CLEAR]:13}{total[SILENT]:8}")
    return 1 if total[SILENT] else 0


def faults(only: str | None) -> list:
    """The faults of the data plane, of training, or both."""
    found: list = []
    if only != "training":
        from faults.test_data_faults import FAULTS

        found += FAULTS + _grids(DATA_GRIDS)
    if only != "data":
        from faults.training_faults import TRAINING_FAULTS

        from whale.runtime.workers.process import environment

        environment.apply(ROOT)
        found += TRAINING_FAULTS + _grids(TRAINING_GRIDS)
    return found


def _grids(grids: dict[str, tuple[str, str]]) -> list:
    from faults.outcomes import Fault

    return [Fault(number, name, functools.partial(_tested, arguments)) for number, (name, arguments) in grids.items()]


def _tested(arguments: str, folder: Path) -> str:
    """RIGHT when every test of a grid passes; what failed is printed."""
    from faults.outcomes import RIGHT, SILENT

    command = [sys.executable, "-m", "pytest", "-m", "", f"--basetemp={folder / 'tests'}", *arguments.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-3000:], flush=True)
    return SILENT if done.returncode else RIGHT


if __name__ == "__main__":
    sys.exit(main())
