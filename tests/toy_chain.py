"""A whole chain in the current folder within a second: real ingest, mixture, receipts, guard and ledger; the "weights"
are bytes made of the inputs, so that nothing here waits for a gradient.

raw/alpha, raw/beta -> ingest -> mix -> train_tokenizer -> pretokenize -> train_dynamics@full -> finetune_dynamics@full
(on gamma) -> evaluate_video. dvc.lock is written as DVC writes it.
"""

import argparse
import hashlib
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy
import simplejpeg
import yaml
from rlds_fixture import SIZE, episodes, spec_values, write_rlds

from whale.audit.checks import dvc_lock, lock_text
from whale.audit.run_graph import RunGraph
from whale.common.config import load_yaml
from whale.common.files import sha256_of_file
from whale.common.json_files import write_json
from whale.data.ingest.episode_table import episode_table
from whale.data.ingest.finish import finish
from whale.data.ingest.ingest import IngestConfig, plan_tasks, process_source_shard
from whale.data.loading.data_fraction import DataFraction
from whale.data.loading.receipt import consumption_receipt
from whale.data.loading.sampler import Draw, Plan, SegmentSampler, single_dataset_plan
from whale.data.loading.segment_reading import PixelSegments
from whale.data.mixture import DatasetSegments, MixConfig, dynamics_plan, pretrain_plan
from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import SegmentConfig, open_each
from whale.data.spec.spec import load_spec
from whale.data.storage.shards import ShardSet
from whale.evaluation.numbers.protocol import protocol
from whale.guard.stage import stage
from whale.lineage.file_digests import FileDigests

ART = Path("artifacts/demo")
FINAL = ART / "models/finetuned/dynamics/full"
METRICS = ART / "metrics/evaluate_video.json"
LENGTHS = {"alpha": [[6, 9, 4], [5, 1]], "beta": [[8, 7], [12]], "gamma": [[10, 9]]}
ROLES = {"alpha": "pretrain", "beta": "pretrain", "gamma": "finetune"}
MEASURED = {"data": "gamma/test", "resolution": 16}
OPTIMIZATION = {"batch_size": 4, "training_steps": 40}
PARAMS = {
    "profile": "demo",
    "seed": 0,
    "segments": {"window": 4, "phases": 2},
    "ingest": {
        "resolution": 16,
        "jpeg_quality": 95,
        "shard_bytes": 65536,
        "max_bad": 0,
        "quality": {"policy": "fail", "budget": 0},
    },
    "mix": {
        "weights": {"alpha": {"weight": 1.0, "source": "ours"}, "beta": {"weight": 2.5, "source": "ours"}},
        "dynamics": {"datasets": ["alpha", "beta"], "provenance": "all of the mixture"},
        "block": 20,
    },
    "train_tokenizer": {"optimization": OPTIMIZATION, "rate": 3.0e-05},
    "pretokenize": {"batch_segments": 8},
    "train_dynamics": {"full": {"optimization": OPTIMIZATION, "size": {"num_layers": 2}}},
    "finetune_dynamics": {"full": {"initial": "full", "optimization": OPTIMIZATION}},
    "evaluate_video": {"seed": 0, "max_episodes": 2},
}


def write_project() -> None:
    """Raw data, specs, params.yaml and constraints.txt in the current folder."""
    Path("data_specs").mkdir()
    for number, (name, lengths) in enumerate(LENGTHS.items()):
        files = [filmed(episodes(file, 10 * number + index), number) for index, file in enumerate(lengths)]
        held_out = [filmed(episodes([7, 6], 10 * number + 9), number)]
        write_rlds(Path("raw"), {"train": files, "val": held_out, "test": held_out}, name=name)
        values = spec_values(name=name)
        values["source"] |= {"dataset": name, "splits": {"train": "train", "val": "val", "test": "test"}}
        values["episodes"]["accept"] = ["leaked_split"]  # an auditor shall find it
        known = {"id": "same", "what": "test is val", "source": "here", "repair": "none"}
        values["errata"] = [known | {"detector": "leaked_split"}]
        Path(f"data_specs/{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    Path("params.yaml").write_text("# the active parameters\n" + yaml.safe_dump(PARAMS, sort_keys=False))
    Path("constraints.txt").write_text("numpy==2.4.6\n")


def filmed(recorded: list[dict], scene: int) -> list[dict]:
    """The episodes with pictures of a disc that wanders through a scene, the same in all episodes of a dataset."""
    axis = np.arange(SIZE) / SIZE
    background = np.random.default_rng(scene).uniform(30, 170, (6, 6, 3)).repeat(4, axis=0).repeat(4, axis=1)
    for each in recorded:
        pictures = each["steps/observation/image"]
        rng = np.random.default_rng(np.frombuffer(pictures[0][-40:], np.uint8))
        place = rng.uniform(0.3, 0.7, 2)
        for step in range(len(pictures)):
            place = np.clip(place + rng.uniform(-0.3, 0.3, 2), 0.1, 0.9)
            is_disc = (axis[:, None] - place[0]) ** 2 + (axis[None, :] - place[1]) ** 2 < 0.04
            image = np.where(is_disc[:, :, None], [250, 240, 60], background).astype(np.uint8)
            pictures[step] = simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="444")
    return recorded


def build() -> Path:
    """Make the chain; returns the final checkpoint's folder."""
    write_project()
    for name in LENGTHS:
        ingest(name)
    mix()
    train("train_tokenizer", None, ART / "models/tokenizer", "pretrain", initial=None)
    for name in LENGTHS:
        pretokenize(name)
    train("train_dynamics", "full", ART / "models/dynamics/full", "pretrain", initial=ART / "models/tokenizer")
    train("finetune_dynamics", "full", FINAL, "finetune", initial=ART / "models/dynamics/full")
    evaluate()
    write_lock()
    return FINAL


@contextmanager
def guarded(*arguments):
    """The guard, as in a process of its own, where an audit hook listens; here there is none."""
    with stage(*arguments) as run:
        run.note(listened=True)
        yield run


def params() -> dict:
    return load_yaml("params.yaml")


def arguments(**values) -> argparse.Namespace:
    return argparse.Namespace(**({"item": None, "metrics": None} | values))


def ingest(name: str) -> None:
    config, spec = IngestConfig.load("ingest"), load_spec(name)
    args = arguments(item=name, raw=Path("raw") / name / "1.0.0", out=ART / "data" / ROLES[name] / "shards" / name)
    with guarded("ingest", args, {"ingest": config, "spec": spec.deciding_values()}) as run:
        tasks = plan_tasks(args.raw, spec, config, run.work)
        for task in tasks:
            process_source_shard(task)
        finish(tasks, run.work, run.out)
        run.add_dataset(spec.source.dataset, spec.source.version)
        run.keep("episodes.parquet", episode_table(run.out))


def mix() -> None:
    config, segments, seed = MixConfig.load("mix"), SegmentConfig.load("segments"), params()["seed"]
    args = arguments(shards=ART / "data/pretrain/shards", out=ART / "mix")
    with guarded("mix", args, {"mix": config, "segments": segments, "seed": seed}) as run:
        sets = open_each(args.shards, ShardSet.open)
        found = {name: DatasetSegments.count(each, "train", segments) for name, each in sets.items()}
        plans = {
            "pretrain": pretrain_plan(config, segments, found, seed=seed),
            "dynamics": dynamics_plan(config, segments, found, seed=seed),
        }
        write_json(run.out / "plan.json", {name: plan.model_dump(mode="json") for name, plan in plans.items()})
        run.keep("plan.json", (run.out / "plan.json").read_bytes())


def train(name: str, item: str | None, out: Path, role: str, initial: Path | None, extra: dict | None = None) -> list:
    """Draw what the real stage would draw; returns [(step, episode key)] of every draw, as a log would have it."""
    values = params()
    section = values[name] if item is None else values[name][item]
    args = arguments(item=item, shards=ART / "data" / role / "shards", out=out)
    if role == "pretrain" or name == "train_reward":  # which is given it whatever its role
        args.mix = ART / "mix"
    if initial is not None:
        args.initial, args.tokens = initial, ART / "data" / role / "tokens"
    config = {name: section, "segments": values["segments"], "seed": values["seed"]}
    with guarded(name, args, config) as run:
        segments = _segments(args.shards, SegmentConfig(**values["segments"]), values["seed"])
        if "data_fraction" in section:
            segments = Part(segments, DataFraction(section["data_fraction"], values["seed"]))
        sampler = SegmentSampler(_plan(name, args, segments, values))
        batch, steps = section["optimization"]["batch_size"], section["optimization"]["training_steps"]
        draws = sampler.draws(0, batch * steps)
        weights = hashlib.sha256(json.dumps([run.inputs, section, extra], sort_keys=True).encode()).digest()
        tensors = {"b": np.frombuffer(weights, np.uint8), "a": np.arange(6, dtype=np.float32)}
        (run.out / "model.safetensors").write_bytes(safetensors.numpy.save(tensors))
        write_json(run.out / "config.json", {"kind": name, "config": section})
        write_json(run.out / "receipt.json", consumption_receipt(sampler, segments, len(draws)))
        write_json(run.out / "dataset_statistics.json", {key: each.statistics for key, each in segments.shards.items()})
        write_json(run.out / "contract.json", {key: shards.contract for key, shards in segments.shards.items()})
        run.keep("receipt.json", (run.out / "receipt.json").read_bytes())
        run.note(workers=0, threads=1, steps=steps, resumed_from=0)
    return [(draw.index // batch + 1, _episode(segments, draw)) for draw in draws]


def pretokenize(name: str) -> None:
    role, section = ROLES[name], {"pretokenize": params()["pretokenize"]}
    args = arguments(item=name, shards=ART / "data" / role / "shards" / name, tokenizer=ART / "models/tokenizer",
                     out=ART / "data" / role / "tokens" / name)  # fmt: skip
    with guarded("pretokenize", args, section) as run:
        (run.out / "tokens.bin").write_bytes(run.inputs["shards"].encode() * 50)


def evaluate() -> None:
    args = arguments(
        models=ART / "models", finetune=ART / "data/finetune", out=ART / "evaluation/video", metrics=METRICS
    )
    with guarded("evaluate_video", args, {"evaluate_video": params()["evaluate_video"]}) as run:
        (run.out / "arrays.npz").write_bytes(bytes(range(256)))
        own, other = protocol("psnr", model=model_name(), **MEASURED), protocol("psnr", model="0" * 16, **MEASURED)
        scores = {"psnr": 21.5, "protocol": own, "from_scratch": {"psnr": 19.25, "protocol": other}}
        run.write_metrics({"finetune": {"gamma": {"test": scores}}})


def model_name() -> str:
    """How protocols name the final model: over the weights of its tokenizer and its dynamics."""
    weights = [sha256_of_file(folder / "model.safetensors") for folder in (ART / "models/tokenizer", FINAL)]
    return hashlib.sha256(bytes.fromhex("".join(weights))).hexdigest()[:16]


def write_lock() -> None:
    """dvc.lock with one entry per stage, as DVC would write it."""
    md5, stages = FileDigests(algorithm="md5"), {}
    for run in {run.name: run for run in RunGraph.load().runs}.values():
        outs = [Path(out).parent if out.endswith("MANIFEST.json") else Path(out) for out in run.outputs]
        closure = json.loads(run.byproduct("closure.json"))
        code = [  # three stand for all, so that a verification takes a fifth of a second
            {"path": name, "hash": "md5", "md5": row["md5"], "size": row["bytes"]}
            for name, row in list(closure.items())[:3]
        ]
        values = params()
        given = {name: values[name] for name in run.params if name in values}
        if run.item in given.get(run.stage, {}):  # a stage over a mapping reads its own part of it
            given[f"{run.stage}.{run.item}"] = given.pop(run.stage)[run.item]
        stages[run.name] = {
            "cmd": " ".join(run.command),
            "deps": code + [dvc_lock._data_row(Path(each.path), md5) for each in run.inputs],
            "params": {"params.yaml": given},
            "outs": [dvc_lock._data_row(out, md5) for out in outs],
        }
    Path("dvc.lock").write_text(lock_text.canonical({"schema": "2.0", "stages": stages}))


def _segments(shards: Path, segments: SegmentConfig, seed: int) -> PixelSegments:
    sets = open_each(shards, ShardSet.open)
    normalizers = {name: ActionNormalizer.from_statistics(each.statistics) for name, each in sets.items()}
    return PixelSegments(sets, "train", segments, normalizers, 16, True, seed)


class Part:
    """The segments of some episodes, numbered anew without the loader's code: what `data_fraction` draws from."""

    def __init__(self, whole: PixelSegments, chosen: DataFraction):
        self.whole, self.chosen, self.shards = whole, chosen, whole.shards
        self.kept = {name: self._kept(name) for name in self.shards}

    def _kept(self, name: str) -> np.ndarray:
        owners = [_episode(self.whole, Draw(0, name, number)) for number in range(self.whole.num_segments(name))]
        keys = sorted(set(owners))
        episodes = {keys[place] for place in self.chosen.places(name, keys)}
        return np.array([number for number, owner in enumerate(owners) if owner in episodes])

    def num_segments(self, name: str) -> int:
        return len(self.kept[name])

    def describe(self, draw: Draw) -> str:
        return self.whole.describe(replace(draw, segment=int(self.kept[draw.dataset][draw.segment])))

    def valid_frames(self, name: str, segments: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return self.whole.valid_frames(name, self.kept[name][segments], indices)


def _plan(name: str, args: argparse.Namespace, segments: PixelSegments | Part, values: dict) -> Plan:
    section = values[name] if args.item is None else values[name][args.item]
    if hasattr(args, "mix") and section.get("role") != "finetune":
        plan = Plan.load(args.mix / "plan.json", "dynamics" if name == "train_dynamics" else "pretrain")
        if isinstance(segments, Part):
            counts = {each.name: segments.num_segments(each.name) for each in plan.datasets}
            plan = plan.restricted(counts, segments.chosen.provenance(plan.provenance))
        own = values[name].get("full", {}).get("seed")
        return plan if own is None else plan.reseeded(own)
    (dataset,) = segments.shards
    return single_dataset_plan(
        dataset, segments.num_segments(dataset), values["seed"], **values["segments"],
        shards_digest=segments.shards_digest(dataset),
    )  # fmt: skip


def _episode(segments: PixelSegments | Part, draw) -> str:
    return segments.describe(draw).split("episode ")[1].split(",")[0]
