"""The tokenizer of a profile trained on real frames, on the CPU and on the GPU: are the losses the same?

    python benchmarks/device_training.py --shards FOLDER [--profile whale-st-64] [--steps 30] [--batch 4] [--json FILE]

FOLDER holds one dataset as `ingest` leaves it (artifacts/<profile>/data/pretrain/shards). Same weights, same samples,
same order; float32 on both, then bfloat16 on the GPU, by the loop of the stages. Without a GPU the CPU trains in both
precisions, so that everything but the device is tried. Exit 1 where losses differ by more than --tolerance.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from whale.common.config import load_yaml
from whale.data.segments.grid import SegmentConfig
from whale.runtime.train.train_worker import work_alone
from whale.runtime.train.training_job import LIVE, Engine, TrainingJob
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.task import Task
from whale.training.tasks.tokenizer.task import TrainTokenizerConfig, new_tokenizer, train_tokenizer_task


def build(communicator: Communicator, profile: dict, options: argparse.Namespace, precision: str) -> Task:
    """The task of `train_tokenizer`, with a budget of --steps and no codebook warm-up longer than half of it."""
    section = profile["train_tokenizer"]
    changes = {"training_steps": options.steps, "batch_size": options.batch, "precision": precision}
    changes |= {"warmup_steps": min(section["optimization"]["warmup_steps"], options.steps // 4)}
    section = section | {"optimization": section["optimization"] | changes}
    section["codebook"] = section["codebook"] | {"codebook_warmup_steps": options.steps // 2}
    config = TrainTokenizerConfig.parse(section, file="profile", place="train_tokenizer")
    segments = SegmentConfig.parse(profile["segments"], file="profile", place="segments")
    inputs = PixelInputs(options.shards, None, segments, config.model.resolution, seed=0)
    loader = inputs.loader(communicator, options.batch, stream="tokenizer")
    return train_tokenizer_task(new_tokenizer(config.model, 0), config, loader, 0)


def losses(profile: dict, options: argparse.Namespace, device: str, precision: str) -> tuple[list[float], float]:
    """Loss of each recorded step, and seconds a step."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.mkdir()
        (Path(folder) / "out").mkdir()
        threads = options.threads
        job = TrainingJob(
            lambda communicator: build(communicator, profile, options, precision),
            Path(folder) / "out", work, 0, Engine(threads=threads, device=device), identity="device",
        )  # fmt: skip
        started = time.perf_counter()
        work_alone(job)
        seconds = (time.perf_counter() - started) / options.steps
        lines = [json.loads(line) for line in (work / LIVE).read_text().splitlines()]
    return [line["record"]["loss"] for line in lines if "record" in line], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--profile", default="whale-st-64")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--tolerance", type=float, default=0.05, help="relative, of any step's loss")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    profile = load_yaml(ROOT / "profiles" / f"{options.profile}.yaml")
    other = "cuda" if torch.cuda.is_available() else "cpu"
    runs = {}
    for device, precision in (("cpu", "float32"), (other, "float32"), (other, "bfloat16")):
        name = f"{device}, {precision}"
        if name in runs:
            continue
        found, seconds = losses(profile, options, device, precision)
        runs[name] = {"what": name, "s_per_step": seconds, "first": found[0], "last": found[-1], "losses": found}
    expected = runs["cpu, float32"]["losses"]
    worst = 0.0
    for run in runs.values():
        gaps = [abs(a - b) / max(abs(b), 1e-9) for a, b in zip(run["losses"], expected, strict=True)]
        run["largest_gap"] = max(gaps)
        worst = max(worst, max(gaps))
        print({name: value for name, value in run.items() if name != "losses"}, flush=True)
    if options.json:
        options.json.write_text(json.dumps(list(runs.values()), indent=1))
    if worst > options.tolerance:
        raise SystemExit(f"losses differ by {worst:.3g}: more than {options.tolerance}")


if __name__ == "__main__":
    main()
