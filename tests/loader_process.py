"""A loader over three tiny datasets, and a process that runs it until it is killed (without pytest: it starts fast)."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from tiny_shards import SIZE, write_tiny_shards

from whale.data.loading.loader import PixelSegments, SegmentLoader
from whale.data.loading.sampler import SegmentSampler
from whale.data.mixture import DatasetSegments, MixConfig, pretrain_plan
from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import SegmentConfig
from whale.data.storage.shards import ShardSet

SEGMENTS = SegmentConfig(window=4, phases=2)
LENGTHS = {"fleet_a": [7, 2, 12], "fleet_b": [5, 30], "one": [3]}  # `one`: a dataset of one segment
GLOBAL_BATCH = 8
NUM_STEPS = 30  # 240 draws: several epochs of every dataset


def open_all(root: Path) -> dict[str, ShardSet]:
    return {name: ShardSet.open(write_tiny_shards(root / name, name, lengths)) for name, lengths in LENGTHS.items()}


def plan_of(shards: dict[str, ShardSet], seed: int = 0, **weights: float):
    weights = weights or {"fleet_a": 1.0, "fleet_b": 2.0, "one": 0.5}
    values = {name: {"weight": weight, "source": "test"} for name, weight in weights.items()}
    config = MixConfig.parse(
        {"weights": values, "dynamics": {"datasets": ["fleet_a"], "provenance": "test"}, "block": 14},
        file="params.yaml",
    )
    found = {name: DatasetSegments.count(shards[name], "train", SEGMENTS) for name in weights}
    return pretrain_plan(config, SEGMENTS, found, seed=seed)


def make_loader(shards: dict[str, ShardSet], plan, rank: int = 0, world_size: int = 1, **options) -> SegmentLoader:
    normalizers = {name: ActionNormalizer.from_statistics(each.statistics) for name, each in shards.items()}
    segments = PixelSegments(shards, "train", SEGMENTS, normalizers, SIZE, jitter=True, seed=0, noise_size=16)
    return SegmentLoader(SegmentSampler(plan), segments, GLOBAL_BATCH, rank, world_size, **options)


def digest(batch: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(batch[name].tobytes() for name in sorted(batch))).hexdigest()


def main(root: Path, state: Path, ledger_path: Path) -> None:
    """Append [step, sample ids, digest] to the ledger for every step, then save the position; go on where it lies."""
    shards = {name: ShardSet.open(root / name) for name in LENGTHS}
    loader = make_loader(shards, plan_of(shards))
    if state.exists():
        loader.resume(json.loads(state.read_text()))
    with open(ledger_path, "a") as ledger:
        for step, batch in loader:
            ledger.write(json.dumps([step, batch["sample_index"].tolist(), digest(batch)]) + "\n")
            ledger.flush()
            temporary = state.with_suffix(".tmp")
            temporary.write_text(json.dumps(loader.position(step + 1)))
            temporary.rename(state)
            if step + 1 == NUM_STEPS:
                break


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
