"""How much slower a training gets beside busy processes, against its fair share of the cores.

python benchmarks/busy_cores.py [--seconds 8] [--busy 0,1,2,4] [--variants shipped,spinning]

The demo's behavior model on a random batch, with the torch threads of a process that works alone (execution.threads),
beside N processes that compute without a pause. The fair share of T threads on C cores beside N others is
C / (T + N) of a core each, at most 1. "times fair" is how often slower than that the training is; the aim is 2.
`spinning`: as OpenMP waits by itself. Rounds of all variants take turns, because cores change from minute to minute.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
from benchmarks.measure import machine
from whale.runtime.workers.process.environment import DEFAULTS

VARIANTS = {  # beside the switches of every stage
    "shipped": {},  # asks at its start whether cores are busy
    "asleep": {"GOMP_SPINCOUNT": "1000"},
    "spinning": {"GOMP_SPINCOUNT": "300000"},
    "one thread": {"WHALE_THREADS": "1"},
}
BATCH, ROUNDS = 16, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--busy", default="0,1,2,4")
    parser.add_argument("--variants", default="shipped,asleep,spinning,one thread")
    parser.add_argument("--measured", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measured:
        print(json.dumps(steps_per_second(options.seconds)))
        return
    cores = len(os.sched_getaffinity(0))
    print(machine())
    print(f"{'':12}{'busy':>5}{'steps/s':>9}{'of idle':>9}{'fair':>7}{'times fair':>12}")
    names = options.variants.split(",")
    idle: dict[str, float] = {}
    for number in map(int, options.busy.split(",")):
        found: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            for name in names:
                found[name].append(beside(number, VARIANTS[name], options.seconds))
        for name in names:
            rate = statistics.median(found[name])
            idle.setdefault(name, rate)
            threads = int(VARIANTS[name].get("WHALE_THREADS", 2))
            fair = min(cores / (threads + number), 1.0)
            slower = fair * idle[name] / rate
            print(f"{name:12}{number:>5}{rate:>9.2f}{rate / idle[name]:>9.2f}{fair:>7.2f}{slower:>12.2f}", flush=True)


def beside(number: int, variables: dict[str, str], seconds: float) -> float:
    """Steps per second of one training beside `number` busy processes."""
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_busy, daemon=True) for _ in range(number)]
    for other in others:
        other.start()
    try:
        environment = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS",)}
        environment |= DEFAULTS | {"PYTHONPATH": str(ROOT)} | variables
        command = [sys.executable, __file__, "--measured", "--seconds", str(seconds)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
        return float(json.loads(done.stdout.splitlines()[-1]))
    finally:
        for other in others:
            other.kill()
            other.join()


def steps_per_second(seconds: float) -> float:
    """Forward, backward and update of the demo's behavior model, for that long after a warm-up."""
    from whale.runtime.workers.process import environment

    environment.apply(ROOT)
    import torch

    from whale.common.config import load_yaml
    from whale.models.behavior.behavior import BehaviorConfig, BehaviorModel
    from whale.models.trunk.torch_process import set_up_torch
    from whale.runtime.workers.process.execution import load_execution

    set_up_torch(load_execution().threads)
    torch.manual_seed(0)
    values = load_yaml(ROOT / "params.yaml")
    config = BehaviorConfig.parse(values["train_behavior"]["model"], file="params.yaml")
    model, window = BehaviorModel(config), values["segments"]["window"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = {
        "frames": torch.randint(0, 256, (BATCH, window + 1, config.resolution, config.resolution, 3)).byte(),
        "action": torch.randn(BATCH, window, config.action_size),
        "action_valid": torch.ones(BATCH, window, dtype=torch.bool),
        "action_mask": torch.ones(BATCH, config.action_size, dtype=torch.bool),
        "num_frames": torch.full((BATCH,), window + 1),
        "uniform": torch.rand(BATCH, window, config.num_categories),
    }

    def step() -> None:
        loss, _ = model(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step()
        done += 1
    return done / (time.perf_counter() - started)


def _busy() -> None:
    while True:
        sum(range(10_000))


if __name__ == "__main__":
    main()
