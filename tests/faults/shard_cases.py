"""Faults of finished shards, of mixtures and of readers: F6, F7, F12, F26, F27."""

import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
from faults.outcomes import CLEAR, RIGHT, SILENT, Fault, outcome
from loader_process import GLOBAL_BATCH, open_all, plan_of
from shard_faults import FAULTS, first_tar, read_everything
from tiny_shards import write_tiny_shards

from whale.data.loading.receipt import chi_square
from whale.data.loading.sampler import SegmentSampler
from whale.data.storage.shards import ShardSet

LIMIT = 64 * 2**20
LENGTHS = [5, 7, 6, 4, 9]


def shards_in(folder: Path, lengths=LENGTHS, seed: int = 0) -> Path:
    return write_tiny_shards(folder / "tiny", "tiny", lengths, per_shard=3, seed=seed)


def damaged(fault, verify: str):
    """F6: the right samples or an error; read as training does (`size`) and with every hash (`always`)."""

    def run(folder: Path) -> str:
        directory = shards_in(folder)
        right = read_everything(directory)
        fault(directory)
        return outcome(lambda: read_everything(directory, verify), right=right, names="tiny")

    return run


def foreign(directory: Path) -> None:
    shutil.copy(first_tar(directory), directory / "train" / "tiny-train-00007-000.tar")


def swapped(directory: Path) -> None:
    second = directory / "train" / "tiny-train-00000-001.tar"
    data = first_tar(directory).read_bytes()
    first_tar(directory).write_bytes(second.read_bytes())
    second.write_bytes(data)


def stale(directory: Path) -> None:
    """The first shard of an older ingest: other actions, the same size."""
    other = write_tiny_shards(directory.parent / "older", "tiny", LENGTHS, per_shard=3, seed=5)
    shutil.copy(first_tar(other), first_tar(directory))


def reordered(directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["shards"].reverse()
    (directory / "manifest.json").write_text(json.dumps(manifest))


def mixture_of_27(folder: Path) -> str:
    """F12: kill and go on 20 times on 1 to 8 workers: the draws of a straight run, shares within 3 sigma."""
    from whale.common.config import load_yaml
    from whale.data.mixture import DatasetSegments, MixConfig, pretrain_plan
    from whale.data.segments.grid import SegmentConfig

    path = Path(__file__).parents[2] / "profiles/whale-x.yaml"
    mix = MixConfig.parse(load_yaml(path)["mix"], file=path, place="mix")
    found = {name: DatasetSegments(10 + 7 * i, 99, 5, "0") for i, name in enumerate(sorted(mix.weights))}
    plan = pretrain_plan(mix, SegmentConfig(window=16, phases=2), found, seed=0)
    rng, step, pieces = np.random.default_rng(0), 0, []
    for _ in range(20):
        stop = step + int(rng.integers(1, 60))
        pieces.append(SegmentSampler(plan).arrays(step * GLOBAL_BATCH, stop * GLOBAL_BATCH))
        step = stop
    straight = SegmentSampler(plan).arrays(0, step * GLOBAL_BATCH)
    joined = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    same = all(map(np.array_equal, joined, straight))
    counts = np.bincount(straight[0], minlength=27)
    return RIGHT if same and not chi_square(counts, [each.share for each in plan.datasets])["alarm"] else SILENT


def changed_mixture(folder: Path) -> str:
    from loader_process import make_loader

    shards = open_all(folder)
    saved = make_loader(shards, plan_of(shards)).position(3)
    other = make_loader(shards, plan_of(shards, fleet_a=5.0, fleet_b=1.0, one=0.5))
    return outcome(lambda: other.resume(saved), names="datasets.fleet_a.per_block")


def format_of_an_earlier_release(folder: Path) -> str:
    """F26: a manifest as version 1 wrote it is refused with the command that migrates."""
    directory = shards_in(folder)
    shutil.copy(Path(__file__).parents[1] / "golden/manifest-v1.json", directory / "manifest.json")
    return outcome(lambda: ShardSet.open(directory), names="dvc repro ingest@tiny")


def bounded_memory(fault):
    """F27: reading a damaged set grows a fresh process by less than 64 MiB."""

    def run(folder: Path) -> str:
        directory = shards_in(folder)
        right = read_everything(directory)
        fault(directory)
        child = os.fork()
        if child == 0:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            result = outcome(lambda: read_everything(directory, "always"), right=right, names="tiny")
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            os._exit(0 if result in (RIGHT, CLEAR) and grown < LIMIT else 1)
        return CLEAR if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else SILENT

    return run


def memory_stays_flat(folder: Path) -> str:
    """F27: RSS growth over 10,000 samples below 5 %."""
    shard_set = ShardSet.open(shards_in(folder))
    rows = list(shard_set.episodes("train"))

    def rss() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for number in range(10_000):
        shard_set.read_frames(rows[number % len(rows)], 0, 1)
        if number == 500:
            before = rss()
    return RIGHT if rss() < 1.05 * before else SILENT


SEVENTH = [foreign, swapped, stale, reordered]
BOMBS = [fault for fault in FAULTS if "bomb" in fault.__name__ or "flip" in fault.__name__]
SHARD_FAULTS = [
    *(Fault("F6", f"{each.__name__} ({how})", damaged(each, how)) for each in FAULTS for how in ("size", "always")),
    *(Fault("F7", f"{each.__name__} ({how})", damaged(each, how)) for each in SEVENTH for how in ("size", "always")),
    Fault("F12", "27 datasets, 20 kills", mixture_of_27),
    Fault("F12", "resumed under another mixture", changed_mixture),
    Fault("F26", "shards of format version 1", format_of_an_earlier_release),
    *(Fault("F27", f"64 MiB, {fault.__name__}", bounded_memory(fault)) for fault in BOMBS),
    Fault("F27", "10,000 samples", memory_stays_flat),
]  # fmt: skip
