"""What a unit of lineage costs: one opened file, one MB, and from both the share at the size of the paper.

    python benchmarks/capture.py

What it costs each stage of the last run stands in `whale timings`.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import ROOT, contender, machine

sys.path[:0] = [str(ROOT)]
from whale.common.files import sha256_of_file
from whale.lineage.file_digests import FileDigests
from whale.lineage.inputs import prove_input
from whale.runtime.workers.process import worker
from whale.seal import seal

ROUNDS = 15
HOUR = 3600
# stage -> (GB proven, GB sealed, files, seconds): "paper scale" of docs/reference/stages.md, itself arithmetic; its
# "seconds" taken as 60.
PAPER = {
    "mix": (1300, 0, 20_000, 60),
    "train_tokenizer": (1300, 0.8, 20_000, 79 * HOUR),
    "pretokenize, all 27": (1300, 63, 40_000, 1.3 * HOUR),
    "embed_behavior, all 27": (1300, 59, 20_000, 13 * 60),
    "train_dynamics": (122, 0.8, 40_000, 77 * HOUR),
    "finetune_dynamics": (1.7, 0.8, 100, 1.3 * HOUR),
}


@dataclass(frozen=True)
class Hook:
    """CPU seconds: `plain` of an open and close by itself; what the hook adds to one of a name that it has seen, of a
    new name, of a new name in a worker; what it adds to any other event."""

    plain: float
    seen: float
    new: float
    worker: float
    event: float


@dataclass(frozen=True)
class Digests:
    """CPU seconds a MB (of one large file) or a file (of many of 1 KB): sealed, proven, proven again, plain sha256."""

    seal: float
    prove: float
    again: float
    plain: float


def hook_cost() -> Hook:
    """Measured in a process of its own, because a hook cannot be removed."""
    return Hook(**contender(__file__, "--hook"))


def _hook_cost(folder: Path, number: int = 2000) -> Hook:
    names = [str(folder / f"{index}.txt") for index in range(number)]
    for name in names:
        Path(name).touch()
    plain, no_event = _best(_open, names), _best(_audit, names)
    worker.listen()
    new, seen, event = _cpu_of(_open, names), _best(_open, names), _best(_audit, names)
    worker.opened.clear()
    worker._log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    written_down = _cpu_of(_open, names)
    return Hook(*(each / number for each in (plain, seen - plain, new - plain, written_down - plain, event - no_event)))


def digest_cost(number: int, size: int) -> tuple[Digests, Digests]:
    """(a file, a MB) of a folder of `number` files of `size` bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, known = Path(scratch), FileDigests()
        for index in range(number):
            (folder / f"{index}.bin").write_bytes(os.urandom(size))
        files = sorted(folder.iterdir())
        plain = _best(sha256_of_file, files)
        sealed = _best(lambda each: seal(each, sha256_of_file), [folder])
        proven = _best(lambda each: prove_input(each, FileDigests()), [folder])
        prove_input(folder, known)
        took = (sealed, proven, _best(lambda each: prove_input(each, known), [folder]), plain)
    megabytes = number * size / 1e6
    return Digests(*(each / number for each in took)), Digests(*(each / megabytes for each in took))


def _open(name: str) -> None:
    with open(name, "rb"):
        pass


def _audit(name: str) -> None:
    sys.audit("whale.benchmark", name)


def _best(body: Callable, items: Sequence) -> float:
    return min(_cpu_of(body, items) for _ in range(ROUNDS))


def _cpu_of(body: Callable, items: Sequence) -> float:
    started = time.process_time()
    for each in items:
        body(each)
    return time.process_time() - started


def print_paper(hook: Hook, file: Digests, megabyte: Digests) -> None:
    """Seconds and share of a stage, its inputs read for the first time since DVC linked them, or remembered."""
    for stage, (proven, sealed, files, seconds) in PAPER.items():
        out = 1000 * sealed * megabyte.seal
        anew = 1000 * proven * megabyte.prove + files * (file.prove + hook.new) + out
        known = files * (file.again + hook.new) + out
        print(f"  {stage:24}{seconds / HOUR:7.2f} h: inputs read anew {anew:6.0f} s = {100 * anew / seconds:.2f} %, "
              f"remembered {known:5.1f} s = {100 * known / seconds:.2f} %")  # fmt: skip


def main() -> None:
    if sys.argv[1:] == ["--hook"]:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(vars(_hook_cost(Path(scratch)))))
        return
    print(machine())
    hook, (file, _), (_, megabyte) = hook_cost(), digest_cost(2000, 2**10), digest_cost(1, 2**28)
    print("hook, us of CPU: " + ", ".join(f"{name} {1e6 * each:.2f}" for name, each in vars(hook).items()))
    for name, each in vars(megabyte).items():
        print(f"{name:6}{1000 * each:7.3f} ms a MB, {each / megabyte.plain:.2f} x sha256; "
              f"{1e6 * vars(file)[name]:5.1f} us a file of 1 KB")  # fmt: skip
    print_paper(hook, file, megabyte)


if __name__ == "__main__":
    main()
