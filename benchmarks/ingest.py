"""TFRecord -> JPEG shards on one core: ours, a TFDS + OpenCV + webdataset loop, the codec alone.

The same files in the same run.

    python benchmarks/ingest.py [--episodes 64] [--rounds 3]

Two cases: `pass` (256 x 256 JPEG stays 256: nothing changes, bytes pass through) and `resize` (480 x 640 -> 256).
Every contender is a process bound to one core and does what it does to make shards that a loader can read: the loop
decodes, resizes, encodes and writes (no checks, no index, no statistics); ours also checks both CRCs, validates every
frame, applies the spec, writes index, statistics and manifest with fsync. The codec is the floor: decode, resize,
encode of the same frames already in memory. Rates are of CPU seconds, which a busy machine does not distort much.
Libraries are loaded before the clock starts, for each: TensorFlow as well as the pandas that pyarrow looks for.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import bound_to, contender, machine, timed

RESOLUTION, STEPS = 256, 40
PICTURES = 79  # different ones, in ever another order
CASES = {"pass": (256, 256), "resize": (480, 640)}
CONTENDERS = ("ours", "loop", "codec")


def main() -> None:
    arguments = parse()
    if arguments.contender:
        print(json.dumps(run_contender(arguments.contender, arguments.case, Path(arguments.data))))
        return
    print(f"machine: {machine()}")
    folder = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    try:
        for case, shape in CASES.items():
            data = folder / case
            made = contender(__file__, "--contender", "make", "--case", case, "--data", str(data), "--episodes",
                             str(arguments.episodes))  # fmt: skip
            rounds = [{who: contender(__file__, "--contender", who, "--case", case, "--data", str(data))
                       for who in CONTENDERS} for _ in range(arguments.rounds)]  # fmt: skip
            show(f"{case}: {shape[0]} x {shape[1]} -> {RESOLUTION}, {made['bytes_of_a_frame']} bytes a frame", rounds)
    finally:
        shutil.rmtree(folder)


def show(title: str, rounds: list[dict]) -> None:
    best = {who: min((each[who] for each in rounds), key=lambda took: took["cpu_s"]) for who in CONTENDERS}
    print(f"\n{title}, {best['ours']['items']} frames, best of {len(rounds)}")
    print(f"{'':28}{'frames / CPU s':>15}{'frames / s':>12}{'peak MB':>9}")
    names = {"ours": "whale ingest", "loop": "TFDS + OpenCV + webdataset", "codec": "codec alone (floor)"}
    for who, name in names.items():
        took = best[who]
        rates = [took["items"] / took[clock] for clock in ("cpu_s", "wall_s")]
        print(f"{name:28}{rates[0]:15.0f}{rates[1]:12.0f}{took['peak_mb']:9.0f}")
    ours, loop, codec = (best[who]["cpu_s"] for who in CONTENDERS)
    print(f"ours = {loop / ours:.2f} x the loop's rate; ours takes {ours / codec:.2f} x the codec's time")


def run_contender(who: str, case: str, data: Path) -> dict:
    bound_to(1)
    cv2.setNumThreads(1)
    if who == "make":
        return make(data, case, parse().episodes)
    out = Path(tempfile.mkdtemp(prefix=f"out-{who}-", dir=data.parent))
    try:
        return {"ours": ours, "loop": loop, "codec": codec}[who](data, case, out)
    finally:
        shutil.rmtree(out)


def picture(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Ramps, squares and a little noise; `make` prints how large it becomes (a camera frame of OXE: 10 to 25 kB)."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    image = np.stack([127 + 60 * np.sin(x / 17 + k) + 50 * np.cos(y / (11 + k)) for k in range(3)], axis=-1)
    image = image + rng.normal(0, 2, image.shape)
    for _ in range(8):
        top, left = rng.integers(0, shape[0] - 40), rng.integers(0, shape[1] - 40)
        image[top : top + 36, left : left + 36] = rng.integers(0, 255, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def make(data: Path, case: str, num_episodes: int) -> dict:
    """An RLDS dataset written through TFDS, its JPEGs as TFDS itself writes them: quality 95, 4:2:0."""
    from whale.runtime.collecting import rlds_writer
    from whale.runtime.collecting.rlds_writer import SplitSource, write_rlds

    sizes: list[int] = []

    def encode(image: np.ndarray, **_: object) -> bytes:
        sizes.append(len(data := simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="420")))
        return data

    rlds_writer.simplejpeg = SimpleNamespace(encode_jpeg=encode)  # type: ignore[attr-defined]

    rng = np.random.default_rng(0)
    height, width = CASES[case]
    pictures = np.stack([picture(rng, CASES[case]) for _ in range(PICTURES)])

    def episodes():
        for _ in range(num_episodes):
            frames = pictures[rng.permutation(PICTURES)[:STEPS]]
            flags = {"is_first": np.arange(STEPS) == 0, "is_last": np.arange(STEPS) == STEPS - 1}
            numbers = {"action": rng.normal(0, 0.1, (STEPS, 7)).astype(np.float32)}
            numbers["action"][:, 6] = rng.integers(0, 2, STEPS)
            steps = {"observation": {"image": frames}, **numbers, **flags}
            steps["language_instruction"] = ["push the plate"] * STEPS
            yield {"steps": steps, "episode_metadata": {"id": 0}}

    steps = {"observation": {"image": f"jpeg[{height},{width},3]"}, "action": "float32[7]", "is_first": "bool[]",
             "is_last": "bool[]", "language_instruction": "text"}  # fmt: skip
    splits = [SplitSource("train", num_episodes, 3, episodes())]
    write_rlds(data, "bench", "1.0.0", steps, {"id": "int32[]"}, splits)
    return {"bytes_of_a_frame": round(sum(sizes) / len(sizes))}


def spec(case: str):
    from whale.common.config import load_yaml
    from whale.data.spec.spec import DatasetSpec

    values = load_yaml(Path(__file__).with_name("bench_spec.yaml"))
    values["cameras"]["primary"]["hw"] = list(CASES[case])
    return DatasetSpec.parse(values, file="bench_spec.yaml")


def ours(data: Path, case: str, out: Path) -> dict:
    from whale.data.ingest.finish import finish
    from whale.data.ingest.ingest import IngestConfig, plan_tasks, process_source_shard
    from whale.data.ingest.quality.gate import QualityConfig

    quality = QualityConfig(policy="fail", budget=0)
    config = IngestConfig(resolution=RESOLUTION, jpeg_quality=95, shard_bytes=2**28, max_bad=0, quality=quality)
    dataset = spec(case)
    pa.array([0])  # pyarrow's first conversion imports pandas: 0.4 CPU s once a process, not a rate

    def body() -> int:
        tasks = plan_tasks(data / "bench" / "1.0.0", dataset, config, out / "work", out)
        for task in tasks:
            process_source_shard(task)
        return finish(tasks, out / "work", out / "shards")["kept"]["train"]["steps"]

    return timed(body)


def loop(data: Path, case: str, out: Path) -> dict:
    """What one writes by hand: TFDS hands JPEG bytes, OpenCV decodes, resizes, encodes, webdataset writes."""
    import tensorflow as tf
    import tensorflow_datasets as tfds
    import webdataset as wds

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    builder = tfds.builder_from_directory(str(data / "bench" / "1.0.0"))
    skip = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}

    def body() -> int:
        frames = 0
        with wds.TarWriter(str(out / "train-000000.tar"), encoder=False) as sink:
            for number, episode in enumerate(builder.as_dataset(split="train", decoders=skip, shuffle_files=False)):
                sample, actions = {"__key__": f"bench-{number:07d}"}, []
                for step in episode["steps"].as_numpy_iterator():
                    image = cv2.imdecode(np.frombuffer(step["observation"]["image"], np.uint8), cv2.IMREAD_COLOR)
                    if image.shape[:2] != (RESOLUTION, RESOLUTION):
                        image = cv2.resize(image, (RESOLUTION, RESOLUTION), interpolation=cv2.INTER_AREA)
                    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
                    sample[f"primary.{len(actions):06d}.jpg"] = jpeg.tobytes()
                    actions.append(step["action"])
                sample["action.npy"] = np.stack(actions).tobytes()
                sink.write(sample)
                frames += len(actions)
        return frames

    return timed(body)


def codec(data: Path, case: str, out: Path) -> dict:
    """Decode, resize, encode with our settings; the frames lie in memory already."""
    from whale.data.ingest.sources.rlds import RldsSource
    from whale.data.storage.images import decode, encode, resize

    source = RldsSource(data / "bench" / "1.0.0")
    images = [image for index in range(3) for raw in source.read_shard("train", index)
              for image in raw.steps["observation/image"]]  # fmt: skip

    def body() -> int:
        for data_ in images:
            image = decode(data_)
            encode(resize(image, RESOLUTION) if image.shape[0] != RESOLUTION else image, 95)
        return len(images)

    return timed(body)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    for hidden in ("contender", "case", "data"):
        parser.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
