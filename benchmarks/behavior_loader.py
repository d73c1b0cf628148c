"""Frames a second that the behavior model's loader gives at 256 x 256, with 1 and 2 decoding threads, beside the need.

    python benchmarks/behavior_loader.py [--threads 1 2] [--rounds 5] [--seconds 4] [--gpus 8] [--mfu 0.45]

Batches of 8 segments of 17 JPEG frames, jitter and noise as `train_behavior` of whale-x takes them, nothing kept from
one batch to the next: the paper's data fit no memory. The loaders take turns in one process, so noise of the machine
hits both alike; medians of the rounds. The need is arithmetic: FLOP of a training segment of whale-x's behavior model,
counted without numbers, on so many cards at so much of 790 TFLOP/s (bfloat16, dense, of an H200).
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import simplejpeg
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]
from ingest import picture
from measure import cpu_seconds, machine
from paper_sizes import batch, networks, without_initial_numbers

from whale.data.loading.loader import PixelSegments, SegmentLoader
from whale.data.loading.sampler import SegmentSampler
from whale.data.mixture import DatasetSegments, MixConfig, pretrain_plan
from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import SegmentConfig
from whale.data.storage.shards import ShardSet
from whale.training.loop.throughput import Throughput

WINDOW, SIZE, ROWS, EPISODES, LENGTH, NAME = 16, 256, 8, 12, 48, "robot"
PEAK = 790e12


def shards(folder: Path) -> tuple[ShardSet, float]:
    """A dataset of drawn pictures, and the mean bytes of a frame."""
    from tiny_shards import write_encoded_shards

    rng = np.random.default_rng(0)
    frames = [
        simplejpeg.encode_jpeg(picture(rng, (SIZE, SIZE)), quality=95, colorsubsampling="444") for _ in range(LENGTH)
    ]
    actions = [rng.uniform(-1, 1, (LENGTH, 7)).astype(np.float32) for _ in range(EPISODES)]
    write_encoded_shards(folder, NAME, [frames] * EPISODES, actions, SIZE)
    return ShardSet.open(folder), statistics.mean(map(len, frames))


def loader(opened: ShardSet, threads: int) -> SegmentLoader:
    """Of the behavior model; it keeps no frame."""
    config = SegmentConfig(window=WINDOW, phases=2)
    values = {"weights": {NAME: {"weight": 1.0, "source": "x"}}, "dynamics": {"datasets": [NAME], "provenance": "x"}}
    plan = pretrain_plan(
        MixConfig.parse(values, file="x"), config, {NAME: DatasetSegments.count(opened, "train", config)}, seed=0
    )
    normalizers = {NAME: ActionNormalizer.from_statistics(opened.statistics)}
    segments = PixelSegments(
        {NAME: opened}, "train", config, normalizers, SIZE, jitter=True, seed=0, decoded_bytes=0, noise_size=16
    )
    return SegmentLoader(SegmentSampler(plan), segments, ROWS, decode_threads=threads)


def rates(threads: int, opened: ShardSet, seconds: float) -> tuple[float, float]:
    """Frames per second, and per second of a core; after the first batches, which fill queues."""
    batches = iter(loader(opened, threads))
    for _ in range(8):
        next(batches)
    frames, started, used = 0, time.perf_counter(), cpu_seconds()
    while (took := time.perf_counter() - started) < seconds:
        frames += next(batches)[1]["frames"].shape[0] * (WINDOW + 1)
    used = cpu_seconds() - used
    batches.close()  # type: ignore[attr-defined]
    return frames / took, frames / used


def needed(gpus: int, mfu: float) -> tuple[float, float]:
    """TFLOP of a training segment of whale-x's behavior model, and frames a second of so many cards."""
    _, model = next(networks("whale-x", "train_behavior"))
    speed = Throughput(torch.device("meta"), 1, 1)
    with without_initial_numbers():
        speed.measure(model, batch(model, 1))  # type: ignore[arg-type]
    assert speed.flops_of_segment is not None
    return speed.flops_of_segment / 1e12, gpus * mfu * PEAK / speed.flops_of_segment * (WINDOW + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--mfu", type=float, default=0.45)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-behavior-") as folder:
        opened, size = shards(Path(folder) / NAME)
        print(f"machine: {machine()}\nJPEG frames {SIZE} x {SIZE} of {size / 1000:.0f} kB")
        found: dict[int, list[tuple[float, float]]] = {threads: [] for threads in options.threads}
        for _ in range(options.rounds):
            for threads, rounds in found.items():
                rounds.append(rates(threads, opened, options.seconds))
    first = statistics.median(rate for rate, _ in found[options.threads[0]])
    for threads, rounds in found.items():
        by_clock, by_core = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{threads} thread(s): {by_clock:7.0f} frames/s, {by_clock / first:.2f} x; {by_core:.0f} per core second")
    flops, frames = needed(options.gpus, options.mfu)
    print(f"{options.gpus} cards at {options.mfu:.0%} of {PEAK / 1e12:.0f} TFLOP/s would take {frames:.0f} frames/s "
          f"({flops:.2f} TFLOP a training segment)")  # fmt: skip


if __name__ == "__main__":
    main()
