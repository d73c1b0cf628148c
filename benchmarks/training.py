"""What a training step costs outside forward, backward and optimizer, what a saved state costs, what a worker adds.

python benchmarks/training.py [--steps 60] [--only loop|saving|scaling]

The demo's models and batch sizes on random batches, one thread. "Loop" is the time of a step of `fit` minus that of
the same forward, backward and AdamW called by hand; CPU time of one thread, both interleaved, medians.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import safetensors.torch

from benchmarks.measure import machine
from whale.common.config import load_yaml
from whale.common.files import sync_file
from whale.data.loading.sampler import rank_slice
from whale.models.dynamics.dynamics import Dynamics, DynamicsConfig
from whale.runtime.train.supervise import train
from whale.runtime.train.training_job import TrainingJob
from whale.training.loop.communicator import Communicator
from whale.training.loop.loop import fit
from whale.training.loop.optimizer import OptimizationConfig, learning_rate, make_optimizer
from whale.training.loop.resume.checkpoint import StateFolder, TrainingState
from whale.training.loop.task import Hooks, Task

WINDOW, TOKENS, ACTION, NUM_CODES = 8, 64, 7, 1024
SCALING_STEPS = 40


class RandomLoader:
    """One prepared batch again and again: the loader itself costs nothing here."""

    step = 0

    def __init__(self, batch: dict[str, np.ndarray]):
        self.batch = batch

    def __iter__(self):
        while True:
            yield self.step, self.batch
            self.step += 1

    def receipt(self, num_steps: int) -> dict:
        return {}

    def describe(self, samples: list[int]) -> list[str]:
        return []

    def position(self, step: int) -> dict:
        return {}

    def resume(self, position) -> None:
        return None


def dynamics_and_batch(config: OptimizationConfig) -> tuple[Dynamics, dict[str, np.ndarray]]:
    """The demo's dynamics and a batch of its shape."""
    rng = np.random.default_rng(0)
    trunk = load_yaml(ROOT / "profiles/demo.yaml")["train_dynamics"]["full"]["size"]
    torch.manual_seed(0)
    size = {"num_codes": NUM_CODES, "action_size": ACTION, "z_size": 256, "behavior_conditioning": True}
    model = Dynamics(DynamicsConfig.model_validate(size | {"copy_bias": 1.0, "trunk": trunk}))
    rows = config.batch_size
    logits = torch.randn(rows, WINDOW, 16, 16, generator=torch.Generator().manual_seed(0))
    return model, {
        "tokens": rng.integers(0, NUM_CODES, (rows, WINDOW + 1, TOKENS)),
        "action": rng.uniform(-1, 1, (rows, WINDOW, ACTION)).astype(np.float32),
        "action_valid": np.ones((rows, WINDOW), bool),
        "num_frames": np.full(rows, WINDOW + 1),
        "z_log_probs": logits.log_softmax(-1).numpy(),
        "uniform": rng.random((rows, WINDOW, 16), np.float32),
        "sample_index": np.arange(rows),
    }


def by_hand(model, batch, config: OptimizationConfig, steps: int) -> list[float]:
    """CPU seconds of each step of forward, backward, clip and AdamW, and nothing else."""
    optimizer = make_optimizer(model, config)
    tensors = {name: torch.as_tensor(value) for name, value in batch.items()}
    seconds = []
    for step in range(steps):
        started = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        loss, _ = model(tensors)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        seconds.append(time.process_time() - started)
    return seconds


def in_the_loop(model, batch, config: OptimizationConfig, steps: int) -> list[float]:
    """CPU seconds of each step of `fit`, with records, flags and a look for the stop file."""
    marks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        around = Hooks(
            on_step=lambda step: marks.append(time.process_time()), stop_requested=(Path(folder) / "stop").exists
        )
        shorter = config.model_copy(update={"training_steps": steps, "warmup_steps": 1})
        task = Task(model, RandomLoader(batch), shorter)
        fit(task, StateFolder(Path(folder) / "states"), Communicator(), around)
    return [later - earlier for earlier, later in itertools.pairwise(marks)]


def overhead(steps: int, rounds: int = 6) -> None:
    params = load_yaml(ROOT / "profiles/demo.yaml")["train_dynamics"]["full"]["optimization"]
    config = OptimizationConfig.model_validate(params | {"save_every": 10**6})
    hand: list[float] = []
    loop: list[float] = []
    for _ in range(rounds):
        hand += by_hand(*dynamics_and_batch(config), config, steps)[2:]
        loop += in_the_loop(*dynamics_and_batch(config), config, steps)[2:]
    plain, whole = statistics.median(hand), statistics.median(loop)
    print(f"dynamics of the demo, batch {config.batch_size}: by hand {1000 * plain:.1f} ms, ", end="")
    print(f"in the loop {1000 * whole:.1f} ms, overhead {whole / plain - 1:+.1%} (aim <= 5 %)")


def saving(megabytes: int = 256, repeats: int = 5) -> None:
    """The protocol (temporary folder, fsync, digests, manifest, rename) beside a plain write of the same."""
    tensors = {f"model.{i}": torch.rand(megabytes * 2**20 // 16 // 4) for i in range(16)}
    plain, durable, protocol, load = [], [], [], []
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        for step in range(repeats):
            started = time.perf_counter()
            safetensors.torch.save_file(tensors, Path(folder) / "plain.safetensors")
            plain.append(time.perf_counter() - started)
            sync_file(Path(folder) / "plain.safetensors")
            durable.append(time.perf_counter() - started)
            states = StateFolder(Path(folder) / "states")
            started = time.perf_counter()
            states.save(TrainingState(step + 1, tensors, {"curve": []}))
            protocol.append(time.perf_counter() - started)
            started = time.perf_counter()
            assert states.newest() is not None
            load.append(time.perf_counter() - started)
    write, synced, sealed = (statistics.median(seconds) for seconds in (plain, durable, protocol))
    print(f"state of {megabytes} MB: write {write:.2f} s, write and fsync {synced:.2f} s, ", end="")
    print(f"with the protocol {sealed:.2f} s: {sealed - synced:+.2f} s to a write that lasts, ", end="")
    print(f"{sealed - write:+.2f} s to one that does not (aim <= 0.3), ", end="")
    print(f"found and verified in {statistics.median(load):.2f} s")


def build(communicator: Communicator) -> Task:
    """The demo's dynamics on a worker's slice of one batch, SCALING_STEPS steps."""
    params = load_yaml(ROOT / "profiles/demo.yaml")["train_dynamics"]["full"]["optimization"]
    budget = {"training_steps": SCALING_STEPS, "warmup_steps": 5, "save_every": 10**6}
    config = OptimizationConfig.model_validate(params | budget)
    model, batch = dynamics_and_batch(config)
    rows = rank_slice(0, config.batch_size, communicator.rank, communicator.world_size)
    return Task(model, RandomLoader({name: value[rows.start : rows.stop] for name, value in batch.items()}), config)


def scaling() -> None:
    """The same global batch on one and on two worker processes of one thread each."""
    found = {}
    for workers in (1, 2):
        records: list[dict] = []
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "out").mkdir()
            job = TrainingJob(build, Path(folder) / "out", Path(folder) / "work", workers)
            train(job, records.append, lambda step: None)
        rates = [record["speed/segments_per_s"] for record in records[5:]]
        found[workers] = statistics.median(rates), np.array([record["loss"] for record in records])
        print(f"{workers} worker(s): {found[workers][0]:.1f} segments/s")
    (one, losses), (two, others) = found[1], found[2]
    print(
        f"throughput ratio {two / one:.2f}; losses differ by {np.abs(others / losses - 1).max():.1e} at most, relative"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="of each of the six rounds")
    parser.add_argument("--only", choices=["loop", "saving", "scaling"])
    torch.set_num_threads(1)
    options = parser.parse_args()
    print(machine())
    parts = {"loop": lambda: overhead(options.steps), "saving": saving, "scaling": scaling}
    for name in [options.only] if options.only else parts:
        parts[name]()


if __name__ == "__main__":
    main()
