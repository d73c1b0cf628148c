"""Shuffled, weighted batches from 27 synthetic datasets: ours, WebDataset RandomMix, tf.data; samples/s and memory.

    python benchmarks/loader.py [--cores 2] [--warm-up 15] [--seconds 10] [--epochs 10]

The same JPEG frames for all: tars for ours and WebDataset, TFRecords (one tf.Example per episode, as RLDS) for tf.data.
A sample is a segment of 17 frames of 128 x 128 and 16 actions; weights are Table 11's, normalised.
Shuffle quality is measured, not claimed: `same` is the share of pairs of samples in a batch of 32 that come from one
episode, divided by what independent draws would give (1 is ideal; 8 means a batch of a few episodes over and over).
tf.data gets the customary pipeline (episodes -> segments still encoded -> weighted mix -> shuffle buffer -> decode)
with a buffer of every segment of the 27 datasets, the smallest that reaches the quality of a global permutation, and
all its parallelism (AUTOTUNE). WebDataset gets our exported module with a buffer of 1,000 segments a dataset.
Twice more, each with decoded frames in memory, as is the default of our training stages: ours keeps up to 512 MB of
them, tf.data has `cache()` behind the decoder and a shuffle buffer of decoded segments.
`first batch`: seconds until it comes (buffers fill). Then each runs for --warm-up seconds untimed (caches fill), and is
timed. RSS: growth between the end of epoch 1 and of epoch 10.
"""

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

sys.path.insert(0, str(Path(__file__).resolve().parent))
from ingest import picture
from measure import bound_to, contender, cpu_seconds, machine, rss_mb

WINDOW, PHASES, SIZE, BATCH = 16, 2, 128, 32
EPISODES, LENGTH = 6, 48
QUALITY_BATCHES = 2000
CONTENDERS = {"ours": "whale", "webdataset": "WebDataset RandomMix", "tfdata": "tf.data shuffle buffer",
              "decode": "decoding alone (floor)", "ours_kept": "whale, frames kept",
              "tfdata_kept": "tf.data, frames cached"}  # fmt: skip


def main() -> None:
    arguments = parse()
    if arguments.contender:
        bound_to(arguments.cores)
        print(json.dumps(RUN[arguments.contender](Path(arguments.data), arguments)))
        return
    print(f"machine: {machine()}")
    folder = Path(tempfile.mkdtemp(prefix="bench-loader-"))
    try:
        common = ["--data", str(folder), "--cores", str(arguments.cores), "--seconds", str(arguments.seconds)]
        common += ["--warm-up", str(arguments.warm_up)]
        common += ["--epochs", str(arguments.epochs)]
        print(json.dumps(contender(__file__, "--contender", "make", *common)))
        show({who: contender(__file__, "--contender", who, *common, timeout=600) for who in CONTENDERS}, arguments)
    finally:
        shutil.rmtree(folder)


def show(found: dict[str, dict], arguments: argparse.Namespace) -> None:
    print(
        f"\n27 datasets, {arguments.cores} core(s), batches of {BATCH} segments of {WINDOW + 1} frames {SIZE} x {SIZE}"
    )
    print(f"{'':26}{'samples/s':>10}{'/ CPU s':>9}{'first batch s':>15}{'same':>7}{'RSS MB':>8}{'growth':>8}")
    for who, name in CONTENDERS.items():
        each = found[who]
        cells = [f"{each['samples'] / each['wall_s']:10.0f}", f"{each['samples'] / each['cpu_s']:9.0f}"]
        cells += [f"{each['first_s']:15.1f}", f"{each.get('same', float('nan')):7.2f}", f"{each['rss_mb']:8.0f}"]
        cells += [f"{each['growth']:8.1%}" if "growth" in each else " " * 8]
        print(f"{name:26}{''.join(cells)}")
    bounds = " and ".join(f"{found[who]['bound_mb']:.0f}" for who in ("ours", "ours_kept"))
    print(f"ours: at most {bounds} MB of index, caches, kept frames and batches, stated before the start")
    rate = {who: each["samples"] / each["cpu_s"] for who, each in found.items()}
    wall = {who: each["samples"] / each["wall_s"] for who, each in found.items()}
    for mine, who in [("ours", "webdataset"), ("ours", "tfdata"), ("ours", "decode"), ("ours_kept", "tfdata"),
                      ("ours_kept", "tfdata_kept")]:  # fmt: skip
        per_cpu, by_clock = rate[mine] / rate[who], wall[mine] / wall[who]
        print(f"{CONTENDERS[mine]} / {CONTENDERS[who]}: {per_cpu:.2f} per CPU second, {by_clock:.2f} by the clock")


def names_and_weights() -> dict[str, float]:
    from whale.common.config import load_yaml

    weights = load_yaml(Path(__file__).resolve().parents[1] / "profiles/whale-x.yaml")["mix"]["weights"]
    return {name: entry["weight"] for name, entry in weights.items()}


def make(data: Path, arguments: argparse.Namespace) -> dict:
    """27 datasets of the same pictures, as shards and as TFRecords."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from rlds_bytes import encode_example, frame
    from tiny_shards import write_encoded_shards

    rng = np.random.default_rng(0)
    frames = [
        simplejpeg.encode_jpeg(picture(rng, (SIZE, SIZE)), quality=95, colorsubsampling="444") for _ in range(LENGTH)
    ]
    (data / "tfrecord").mkdir(parents=True)
    for name in names_and_weights():
        actions = [rng.uniform(-1, 1, (LENGTH, 7)).astype(np.float32) for _ in range(EPISODES)]
        write_encoded_shards(data / "shards" / name, name, [frames] * EPISODES, actions, SIZE)
        records = [
            encode_example({"steps/image": frames, "steps/action": action.ravel(), "id": np.array([number], np.int64)})
            for number, action in enumerate(actions)
        ]
        (data / "tfrecord" / name).write_bytes(b"".join(map(frame, records)))
    return {"frames": LENGTH * EPISODES * len(names_and_weights()), "bytes_of_a_frame": len(frames[0])}


def plan_and_sets(data: Path):
    from whale.data.mixture import DatasetSegments, MixConfig, pretrain_plan
    from whale.data.segments.grid import SegmentConfig, open_each
    from whale.data.storage.shards import ShardSet

    sets, segments = open_each(data / "shards", ShardSet.open), SegmentConfig(window=WINDOW, phases=PHASES)
    weights = {name: {"weight": weight, "source": "Table 11"} for name, weight in names_and_weights().items()}
    mix = MixConfig.parse({"weights": weights, "dynamics": {"datasets": list(weights), "provenance": "x"}}, file="x")
    found = {name: DatasetSegments.count(shards, "train", segments) for name, shards in sets.items()}
    return pretrain_plan(mix, segments, found, seed=0), sets, segments


def ours(data: Path, arguments: argparse.Namespace, decoded_bytes: int = 0) -> dict:
    from whale.data.loading.loader import PixelSegments, SegmentLoader
    from whale.data.loading.sampler import SegmentSampler
    from whale.data.segments.actions import ActionNormalizer

    started = time.perf_counter()
    plan, sets, config = plan_and_sets(data)
    normalizers = {name: ActionNormalizer.from_statistics(shards.statistics) for name, shards in sets.items()}
    segments = PixelSegments(
        sets, "train", config, normalizers, SIZE, jitter=True, seed=0, decoded_bytes=decoded_bytes, noise_size=16
    )
    sampler = SegmentSampler(plan)
    loader = SegmentLoader(sampler, segments, BATCH, decode_threads=arguments.cores)

    def batches() -> Iterator[tuple[int, np.ndarray]]:
        for _, batch in loader:
            yield len(batch["frames"]), batch["sample_index"]

    def episodes(indices: np.ndarray) -> list[str]:
        draws = sampler.draws(int(indices[0]), int(indices[-1]) + 1)
        return [segments.describe(draw).partition(", frame")[0] for draw in draws]

    took = measure(batches(), started, arguments, episodes)
    return took | memory_over_epochs(loader, sum(each.num_segments for each in plan.datasets), arguments.epochs)


def ours_kept(data: Path, arguments: argparse.Namespace) -> dict:
    from whale.runtime.workers.process.execution import Execution

    return ours(data, arguments, Execution().decoded_bytes)


def memory_over_epochs(loader, num_segments: int, epochs: int) -> dict:
    """Highest RSS within each epoch (as many draws as there are segments); growth from the first to the last."""
    per_epoch = -(-num_segments // BATCH)
    peaks = [0.0] * epochs
    for number, _ in enumerate(itertools.islice(loader, per_epoch * epochs)):
        peaks[number // per_epoch] = max(peaks[number // per_epoch], rss_mb())
    return {"rss_mb": max(peaks), "growth": peaks[-1] / peaks[0] - 1, "bound_mb": loader.memory_bound() / 2**20}


def webdataset(data: Path, arguments: argparse.Namespace) -> dict:
    from whale.data.workbench.webdataset_export import webdataset_module

    started = time.perf_counter()
    plan, _, _ = plan_and_sets(data)
    module: dict = {}
    exec(compile(webdataset_module(plan, data / "shards"), "exported.py", "exec"), module)

    def batches() -> Iterator[tuple[int, list[str]]]:
        stream = iter(module["pipeline"](seed=0))
        while True:
            group = list(itertools.islice(stream, BATCH))
            np.stack([segment["frames"] for segment in group])
            yield BATCH, [segment["key"].split("+")[0] for segment in group]

    return measure(batches(), started, arguments)


def tfdata(data: Path, arguments: argparse.Namespace, keeps_frames: bool = False) -> dict:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.cores)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.cores)
    started = time.perf_counter()
    weights = names_and_weights()
    starts = [start for phase in range(PHASES) for start in range(phase * WINDOW // PHASES, LENGTH - 1, WINDOW)]

    def episode(record, number):
        features = {
            "steps/image": tf.io.VarLenFeature(tf.string),
            "steps/action": tf.io.VarLenFeature(tf.float32),
            "id": tf.io.FixedLenFeature([1], tf.int64),
        }
        parsed = tf.io.parse_single_example(record, features)
        frames = tf.sparse.to_dense(parsed["steps/image"])
        action = tf.reshape(tf.sparse.to_dense(parsed["steps/action"]), [-1, 7])
        return {"frames": frames, "num_frames": LENGTH, "action": action, "episode": number * 1000 + parsed["id"][0]}

    def decode(sample):
        """The frames of an episode or a segment; of a tail that repeats the last frame, that one once."""
        images = sample["frames"][: sample["num_frames"]]
        frames = tf.map_fn(lambda image: tf.io.decode_jpeg(image, 3), images, fn_output_signature=tf.uint8)
        places = tf.minimum(tf.range(tf.shape(sample["frames"])[0]), sample["num_frames"] - 1)
        return sample | {"frames": tf.gather(frames, places)}

    def segments(whole):
        index = tf.minimum(tf.constant(starts)[:, None] + tf.range(WINDOW + 1)[None], LENGTH - 1)
        every = {"frames": tf.gather(whole["frames"], index), "action": tf.gather(whole["action"], index[:, :-1])}
        every["num_frames"] = tf.minimum(WINDOW + 1, LENGTH - tf.constant(starts))
        every["episode"] = tf.repeat(whole["episode"], len(starts))
        return tf.data.Dataset.from_tensor_slices(every)

    def dataset(number: int, name: str):
        records = tf.data.TFRecordDataset(str(data / "tfrecord" / name))
        episodes = records.map(lambda record: episode(record, tf.constant(number, tf.int64)))
        if keeps_frames:
            episodes = episodes.map(decode).cache()
        return episodes.repeat().flat_map(segments)

    mixed = tf.data.Dataset.sample_from_datasets(
        [dataset(number, name) for number, name in enumerate(weights)],
        list(np.array([*weights.values()]) / sum(weights.values())),
        0,
    )
    stream = mixed.shuffle(len(starts) * EPISODES * len(weights), seed=0)
    if not keeps_frames:
        stream = stream.map(decode, num_parallel_calls=tf.data.AUTOTUNE)

    def batches() -> Iterator[tuple[int, list[str]]]:
        for batch in stream.batch(BATCH).prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
            yield len(batch["frames"]), batch["episode"]

    return measure(batches(), started, arguments)


def decode(data: Path, arguments: argparse.Namespace) -> dict:
    """The same frames decoded on one thread into one place: no reading, no shuffling, no new memory."""
    from whale.data.storage.images import decode_into

    _, sets, _ = plan_and_sets(data)
    shards = next(iter(sets.values()))
    encoded = shards.read_encoded(shards.episodes("train")[0], 0, WINDOW + 1)
    frames = np.empty((WINDOW + 1, SIZE, SIZE, 3), np.uint8)

    def batches() -> Iterator[tuple[int, list[str]]]:
        while True:
            for _ in range(BATCH):
                decode_into(encoded, frames)
            yield BATCH, []

    return measure(batches(), time.perf_counter(), arguments)


def measure(
    batches: Iterator[tuple[int, Any]], started: float, arguments: argparse.Namespace, episodes: Callable = list
) -> dict:
    """Rate after the first batch and the warm-up; and how often two samples of a batch share an episode.

    `episodes` makes a batch's second part the episodes of its samples; it is asked after the clock has stopped.
    """
    next(batches)
    first = time.perf_counter() - started
    while time.perf_counter() - started < first + arguments.warm_up:
        next(batches)
    before, samples, seen = cpu_seconds(), 0, []
    begun = time.perf_counter()
    while time.perf_counter() - begun < arguments.seconds:
        count, of_samples = next(batches)
        samples += count
        seen.append(of_samples)
    took = {"wall_s": time.perf_counter() - begun, "cpu_s": cpu_seconds() - before}
    groups = [episodes(each) for each in seen[:QUALITY_BATCHES] if len(each)]
    same = [np.mean([a == b for a, b in itertools.combinations(group, 2)]) for group in groups]
    ideal = sum(share**2 for share in shares()) / EPISODES
    quality = {"same": float(np.mean(same)) / ideal} if same else {}
    return {"samples": samples, "first_s": first, "rss_mb": rss_mb(), **took, **quality}


def shares() -> list[float]:
    weights = names_and_weights()
    return [weight / sum(weights.values()) for weight in weights.values()]


RUN = {
    "make": make, "ours": ours, "webdataset": webdataset, "tfdata": tfdata, "decode": decode,
    "ours_kept": ours_kept, "tfdata_kept": partial(tfdata, keeps_frames=True),
}  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--warm-up", type=float, default=15.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=10)
    for hidden in ("contender", "data"):
        parser.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
