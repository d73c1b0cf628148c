"""Lineage at the size of the paper: a synthetic ledger (970,000 episodes, 27 datasets, 20,000 shards, 200 checkpoints).

python benchmarks/lineage.py [--episodes 970000 --shards 20000 --checkpoints 200 --shard-bytes 65536] [--root DIR]

Statements, records, episode tables, seals and signatures have the form of real ones; shards and weights are noise. Each
command is a process of its own, as a person starts it; warm = the second time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import ROOT, cpu_seconds, machine

sys.path[:0] = [str(ROOT)]
from whale.common.files import sha256_of_file
from whale.common.json_files import (
    canonical_json,
    pretty_json,
    write_json,
)
from whale.data.ingest.episode_table import COLUMNS
from whale.guard import machine as described
from whale.lineage import ledger
from whale.lineage.closure import closure_digest, code_files, import_closure
from whale.lineage.code_state import UNKNOWN
from whale.lineage.file_digests import FileDigests
from whale.lineage.inputs import ProvenInput, prove_input
from whale.lineage.statement import Derivation, RunFacts, build_statement
from whale.lineage.summary import LINEAGE_NAME, summarize
from whale.lineage.trust import sign_into_ledger
from whale.seal import seal

DATASETS = 27
ART = Path("artifacts/whale-x")
RUNS = Path("lineage/runs")
STEPS, BATCH = 300_000, 64
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Project:
    """The current folder, and what every run of it shares."""

    rng: np.random.Generator
    digests: FileDigests
    environment: bytes
    closures: dict[str, dict[str, dict[str, object]]]
    number: int = 0
    known: dict[Path, ProvenInput] = field(default_factory=dict)

    def proven(self, path: Path) -> ProvenInput:
        """Each input once: nothing here changes after it was made."""
        if path not in self.known:
            self.known[path] = prove_input(path, self.digests)
        return self.known[path]

    def run(self, stage: str, item: str | None, inputs: dict[str, Path], out: Path, **kept: bytes) -> None:
        """Seal `out`, write the record, sign the statement, as the guard does."""
        proven = {name: self.proven(path) for name, path in inputs.items()}
        code = self.closures[stage]
        config = {stage: {"optimization": {"batch_size": BATCH, "training_steps": STEPS}, "rate": 3.0e-5}, "seed": 0}
        derivation = Derivation(
            stage, item, config, {name: each.digest for name, each in proven.items()},
            closure_digest(code, "syntax"),
        )  # fmt: skip
        summaries = [read for each in proven.values() for path in each.holders if (read := summary_beside(path))]
        own = [json.loads(kept["dataset"])] if "dataset" in kept else []
        write_json(out / LINEAGE_NAME, summarize(derivation, summaries, own))
        subjects = {f"{out}/MANIFEST.json": seal(out, self.digests)}
        listed = json.loads((out / "MANIFEST.json").read_bytes())["files"]
        if len(listed) <= 64:
            subjects |= {f"{out}/{name}": row["sha256"] for name, row in listed.items()}
        self.number += 1
        folder = RUNS / f"{self.number:016x}"
        records = {"environment.json": self.environment, "closure.json": pretty_json(code)}
        records["opened.json"] = pretty_json({"settings": [], "undeclared_files": [], "undeclared_modules": []})
        records |= {f"{name}.parquet" if name == "episodes" else f"{name}.json": each for name, each in kept.items()}
        folder.mkdir(parents=True)
        byproducts = {}
        for name, payload in records.items():
            (folder / name).write_bytes(payload)
            byproducts[f"{folder}/{name}"] = ("kept", sha256_of_file(folder / name))
        moment = (FIRST + timedelta(hours=self.number)).isoformat(timespec="milliseconds")
        facts = RunFacts(
            f"{self.number:016x}", ["python", "-m", "whale.run", stage, "--item", str(item)], moment, moment,
            {name: str(path) for name, path in inputs.items()}, {name: each.holders for name, each in proven.items()},
            {"params.yaml": sha256_of_file("params.yaml")}, UNKNOWN, len(code), closure_digest(code), byproducts,
            {"profile": "whale-x", "undeclared": 0, "listened": True, "workers": 8, "threads": 1},
        )  # fmt: skip
        copy = folder / "statement.dsse.json"
        statement = build_statement(derivation, facts, subjects)
        _, envelope = sign_into_ledger(statement)
        copy.write_bytes(canonical_json(envelope).encode() + b"\n")


def summary_beside(holder: str) -> dict[str, Any] | None:
    path = Path(holder).with_name(LINEAGE_NAME)
    return json.loads(path.read_bytes()) if path.is_file() else None


def build(arguments: argparse.Namespace) -> None:
    """The whole project in the current folder."""
    rng = np.random.default_rng(0)
    values = {"profile": "whale-x", "seed": 0}
    for stage in STAGES:
        values[stage] = {"optimization": {"batch_size": BATCH, "training_steps": STEPS}, "rate": 3.0e-5}
    Path("params.yaml").write_bytes(pretty_json(values))
    environment = pretty_json({**described.describe(), "installed": described.installed_packages()})
    closures = {stage: closure_of(stage) for stage in STAGES}
    project = Project(rng, FileDigests(), environment, closures)
    names = [f"dataset_{number:02}" for number in range(DATASETS)]
    for number, name in enumerate(names):
        ingest(project, name, arguments.episodes // DATASETS, arguments.shards // DATASETS, arguments.shard_bytes)
        print(f"  dataset {number + 1} of {DATASETS}", file=sys.stderr)
    shards, tokens = ART / "data/pretrain/shards", ART / "data/pretrain/tokens"
    write(project, ART / "mix", {"plan.json": 4096})
    project.run("mix", None, {"shards": shards}, ART / "mix")
    train(project, "train_tokenizer", None, {"shards": shards, "mix": ART / "mix"}, ART / "models/tokenizer", names)
    for name in names:
        write(project, tokens / name, {"tokens.bin": 2**16})
        inputs = {"shards": shards / name, "tokenizer": ART / "models/tokenizer"}
        project.run("pretokenize", name, inputs, tokens / name)
    for number in range(arguments.checkpoints):
        inputs = {"mix": ART / "mix", "tokens": tokens, "shards": shards, "initial": ART / "models/tokenizer"}
        train(project, "train_dynamics", f"k{number:03}", inputs, ART / f"models/dynamics/k{number:03}", names)


def closure_of(stage: str) -> dict[str, dict[str, object]]:
    return code_files(ROOT, import_closure(ROOT, Path("pipelines") / f"{stage}.py"))


def ingest(project: Project, name: str, episodes: int, shards: int, size: int) -> None:
    raw, out = Path("raw") / name / "1.0.0", ART / "data/pretrain/shards" / name
    write(project, raw, {f"{name}-train.tfrecord-{number:05}-of-00060": 4096 for number in range(60)})
    write(project, out, {f"train/{name}-train-{number:05}-000.tar": size for number in range(shards)})
    table = episode_rows(project.rng, name, episodes)
    pq.write_table(table, out / "episodes.parquet", compression="zstd", write_statistics=False)
    upstream = project.proven(raw).digest
    dropped = -(-episodes // 50)
    summary = {
        "id": f"dataset:{name}@sha256:{upstream}",
        "name": name,
        "upstream": {"dataset": name, "version": "1.0.0", "files": 60, "sha256": upstream},
        "spec_digest": "0" * 64,
        "manifest_sha256": "0" * 64,
        "robot": "synthetic",
        "licence": {"spdx": "CC-BY-4.0", "evidence": "read"},
        "read": {"episodes": episodes, "steps": episodes * 100},
        "kept": {"train": {"episodes": episodes - dropped, "steps": (episodes - dropped) * 100}},
        "dropped": {"too_short": {"episodes": dropped, "steps": dropped}},
    }
    payload = (out / "episodes.parquet").read_bytes()
    project.run("ingest", name, {"raw": raw}, out, dataset=pretty_json(summary), episodes=payload)


def episode_rows(rng: np.random.Generator, name: str, count: int) -> pa.Table:
    hexes = [[row.hex() for row in np.frombuffer(rng.bytes(32 * count), "V32").astype("V32").tolist()] for _ in "12"]
    kept = np.arange(count) % 50 != 0
    columns = {
        "key": [f"{name}-train-{number:07}" for number in range(count)],
        "split": ["train"] * count,
        "source_file": [f"{name}-train.tfrecord-{number * 60 // count:05}-of-00060" for number in range(count)],
        "record_index": np.arange(count) % max(count // 60, 1),
        "payload_sha256": hexes[0],
        "content_sha256": hexes[1],
        "kept": kept,
        "reason": [None if each else "too_short" for each in kept],
        "steps_in": rng.integers(20, 200, count),
        "steps_out": rng.integers(20, 200, count),
        "shard": [f"train/{name}-train-{number // 50:05}-000.tar" for number in range(count)],
    }
    return pa.table({column: columns[column] for column in COLUMNS})


def train(project: Project, stage: str, item: str | None, inputs: dict[str, Path], out: Path, names: list[str]) -> None:
    drawn = {
        "raw_weight": 1.0, "planned_share": 1 / DATASETS, "segment_share": 1 / DATASETS,
        "valid_frame_share": 1 / DATASETS, "segments": 7, "valid_frames": 99, "epochs": 0.5,
    }  # fmt: skip
    receipt = {"plan_digest": "0" * 64, "num_draws": STEPS * BATCH, "datasets": {name: drawn for name in names}}
    write(project, out, {"model.safetensors": 2**20, "config.json": 900, "contract.json": 9000, "README.md": 5000})
    (out / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    write_json(out / "receipt.json", receipt)
    project.run(stage, item, inputs, out, receipt=pretty_json(receipt))


def write(project: Project, folder: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(project.rng.bytes(size))


@dataclass(frozen=True, order=True)
class Took:
    """Wall and CPU seconds of a process."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s (CPU {self.cpu:.2f} s)"


STAGES = ("ingest", "mix", "train_tokenizer", "pretokenize", "train_dynamics")
CHECKPOINT, OTHER = (f"{ART}/models/dynamics/k{number}" for number in ("007", "011"))
COMMANDS = {
    "show": ["show", CHECKPOINT],
    "affected": ["affected", "dataset:dataset_13"],
    "diff": ["diff", CHECKPOINT, OTHER],
    "episodes --dropped": ["episodes", CHECKPOINT, "--dropped"],
    "completeness": ["completeness", CHECKPOINT],
    "verify": ["verify", CHECKPOINT],
}


def whale(*arguments: str) -> Took:
    """Any exit code but 0 and 1 (a difference) ends the benchmark."""
    command = [sys.executable, "-m", "whale.cli", "lineage", *arguments]
    return timed(command, 1 if arguments[0] == "diff" else 0)


def checksums() -> Took:
    """The same bytes by coreutils: everything below raw, artifacts and lineage."""
    command = "find raw artifacts lineage -type f -print0 | xargs -0 -n 500 sha256sum > /dev/null"
    return timed(["/bin/sh", "-c", command], 0)


def timed(command: list[str], accepted: int) -> Took:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    wall, cpu = time.perf_counter(), cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode > accepted:
        raise SystemExit(f"{command}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Took(time.perf_counter() - wall, cpu_seconds() - cpu)


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def measure() -> None:
    tables = sum(path.stat().st_size for path in RUNS.glob("*/episodes.parquet")) / 2**20
    print(f"{machine()}\n{len(ledger.read())} runs; ledger {ledger.LEDGER.stat().st_size / 2**20:.1f} MB, "
          f"episode tables {tables:.1f} MB, all of lineage/ {megabytes(Path('lineage')):.1f} MB")  # fmt: skip
    for name, command in COMMANDS.items():
        first, *warm = (whale(*command) for _ in range(4))
        print(f"{name:20} first {first}; warm {min(warm)}", flush=True)
    pairs = [(checksums(), whale("verify", CHECKPOINT, "--deep")) for _ in range(3)]
    plain, deep = (min(each) for each in zip(*pairs, strict=True))
    total = sum(megabytes(Path(name)) for name in ("raw", "artifacts", "lineage"))
    ratio = f"{100 * plain.wall / deep.wall:.0f} % by wall time, {100 * plain.cpu / deep.cpu:.0f} % by CPU time"
    print(f"verify --deep {deep}; sha256sum of the same {total:.0f} MB {plain}: {ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("episodes", 970_000), ("shards", 20_000), ("checkpoints", 200), ("shard-bytes", 65_536)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--root", type=Path, help="a folder to make it in, or one made before; default: a temporary one"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.root or Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        os.chdir(root)
        os.environ["WHALE_CONFIG_DIR"] = str(root.absolute() / "config")  # its key is not one of the user's
        if not Path("lineage/HEAD").is_file():
            build(arguments)
        measure()
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
