"""Every injected fault and what came of it: right, clear error, silent. Exit 1 when one is silent.

python scripts/faults.py [--kills 50] [--only training]
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="moments at which a writer of shards is killed")
    parser.add_argument("--only", choices=["data", "training"])
    options = parser.parse_args()
    os.environ["WHALE_FAULT_KILLS"] = str(options.kills)
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
    found = []
    if only != "training":
        from faults.test_data_faults import FAULTS

        found += FAULTS
    if only != "data":
        from faults.training_faults import TRAINING_FAULTS

        from whale.runtime.guard import environment

        environment.apply(ROOT)
        found += TRAINING_FAULTS
    return found


if __name__ == "__main__":
    sys.exit(main())
