"""All-reduce and all-gather over the GPUs that are here (NCCL), or over two processes of a CPU (gloo): right, how fast?

    python benchmarks/collectives.py [--workers N] [--megabytes 64] [--json FILE]

The bus bandwidth of an all-reduce is 2 (n - 1) / n x bytes / seconds, as nccl-tests has it. Every sum is checked.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed as dist
from torch import multiprocessing

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from whale.runtime.workers.process.environment import on_this_machine_only

REPEATS = 10


def worker(rank: int, workers: int, megabytes: int, store: str, found) -> None:
    """One rank; rank 0 reports."""
    on_this_machine_only()
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", rank) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    backend = "nccl" if has_gpu else "gloo"
    dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=workers)
    rows = []
    for name, share in (("all_reduce", 2 * (workers - 1) / workers), ("all_gather", (workers - 1) / workers)):
        count = megabytes * 2**20 // 4 // workers * workers
        value = torch.full((count,), float(rank + 1), device=device)
        into = torch.empty(count * workers, device=device) if name == "all_gather" else None

        def once(value=value, into=into) -> torch.Tensor:
            if into is None:
                out = value.clone()
                dist.all_reduce(out)
                return out
            dist.all_gather_into_tensor(into, value)
            return into

        total = once().double().mean().item()
        expected = workers * (workers + 1) / 2 if into is None else (workers + 1) / 2
        assert total == expected, f"{name}: {total} instead of {expected}"
        seconds = []
        for _ in range(REPEATS):
            dist.barrier()
            started = time.perf_counter()
            once()
            if has_gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        took = sorted(seconds)[REPEATS // 2]
        moved = count * 4 * (1 if into is None else workers)
        speed = share * moved / took / 1e9
        rows.append({"what": f"{name}, {backend}, {workers} workers", "ms": took * 1e3, "gb_per_s": speed})
    if rank == 0:
        found.put(rows)
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    found = context.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="collectives-") as folder:
        arguments = (options.workers, options.megabytes, f"{folder}/store", found)
        multiprocessing.spawn(worker, arguments, nprocs=options.workers)
        rows = found.get()
    for row in rows:
        print(row, flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
