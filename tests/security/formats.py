# ruff: noqa: E501  lists of inputs
"""One small valid input of every format that others may send, and what of ours reads it, as ingest or a person would.

`Format.make(folder)` writes the sample; `files` are those that a mutant spoils; `read(folder)` reads all of it.
`resealed(folder)` mends the checksums that stand above the spoilt bytes, so that what lies behind them is reached too.
"""

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from whale.common.files import sha256_of_file

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Format:
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    files: tuple[str, ...]  # patterns
    resealed: Callable[[Path], object] = lambda folder: None


# Sources: as ingest reads them, spec and all.


def ingest_all(folder: Path, spec) -> None:
    from whale.data.ingest.canonical.canonical import canonical_episode, wanted_keys
    from whale.data.ingest.ingest import canonical_frames
    from whale.data.ingest.quality.episode import inspect_episode
    from whale.data.ingest.sources.location import locate
    from whale.data.ingest.sources.opening import open_source
    from whale.data.spec.episode import EpisodeError, Rejected

    source, kind = spec.source, spec.source.format
    where = locate(folder / "raw", source.dataset, source.version, kind=kind)
    opened = open_source(kind, where.directory, source.dataset, source.version)
    sorted(opened.features)
    keys = wanted_keys(spec, spec.cameras)
    for split, units in opened.splits.items():
        for index in range(min(len(units), 4)):
            for number, raw in zip(range(8), opened.read_shard(split, index, keys), strict=False):
                episode = (
                    raw if isinstance(raw, Rejected) else canonical_episode(raw, spec, f"k-{number}", spec.cameras)
                )
                if isinstance(episode, Rejected):
                    continue
                for role, images in episode.frames.items():
                    try:
                        jpegs = canonical_frames(images, spec.cameras[role], 16, 90)
                    except EpisodeError:
                        break
                    inspect_episode(raw, episode, {role: jpegs}, spec)


def make_rlds(folder: Path) -> None:
    import rlds_fixture as fixture

    directory = fixture.write_rlds(folder / "src", {"train": [fixture.episodes([4, 3])]})
    directory.rename(folder / "raw")


def reseal_records(folder: Path) -> None:
    """Right checksums for whatever stands in the frames, as far as lengths can be followed."""
    from whale.data.ingest.sources.tfrecord import FOOTER, HEADER, masked_crc32c

    for path in (folder / "raw").glob("*.tfrecord-*"):
        data, position = bytearray(path.read_bytes()), 0
        while position + 16 <= len(data):
            length = HEADER.unpack(data[position : position + 12])[0]
            stop = position + 12 + length
            if stop + 4 > len(data):
                break
            data[position + 8 : position + 12] = FOOTER.pack(masked_crc32c(bytes(data[position : position + 8])))
            data[stop : stop + 4] = FOOTER.pack(masked_crc32c(bytes(data[position + 12 : stop])))
            position = stop + 4
        path.write_bytes(data)


def rlds_spec():
    import rlds_fixture

    return rlds_fixture.tiny_spec()


def make_lerobot2(folder: Path) -> None:
    import lerobot_fixture

    lerobot_fixture.write_v2(folder / "raw", [4, 3])


def make_lerobot3(folder: Path) -> None:
    import lerobot_fixture

    lerobot_fixture.write_v3(folder / "raw", [[4, 3]])


def lerobot_spec(version: str):
    import lerobot_fixture

    return lerobot_fixture.lerobot_spec(version)


def array_spec(kind: str, camera: str, state: str, action: str):
    import rlds_fixture

    from whale.data.spec.spec import DatasetSpec

    values = rlds_fixture.spec_values()
    values["source"] |= {"format": kind, "splits": {"train": "all"}}
    values["cameras"]["primary"] |= {"key": camera, "hw": [24, 24]}
    values["language"] = {"key": None, "encoding": "utf8", "scope": "episode", "kind": "none"}
    for part in values["state"].values():
        part["key"] = state
    for name in ("translation", "rotation", "gripper"):
        values["action"][name]["key"] = action
    return DatasetSpec.parse(values, file="spec")


def arrays_of(seed: int, steps: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    state = np.cumsum(rng.normal(0, 0.01, (steps, 7)), 0).astype(np.float32)
    return {"action": rng.normal(0, 0.01, (steps, 7)).astype(np.float32), "state": state,
            "image": rng.integers(0, 255, (steps, 24, 24, 3), np.uint8), "text": np.array("go")}  # fmt: skip


def make_npz(folder: Path) -> None:
    (folder / "raw").mkdir(parents=True)
    np.savez_compressed(folder / "raw/a.npz", **arrays_of(0, 4))
    np.savez(folder / "raw/b.npz", **arrays_of(1, 3))


def reseal_npz(folder: Path) -> None:
    """Whatever can still be taken out goes into a whole archive: faults inside of members, behind zip's own CRC."""
    for path in (folder / "raw").glob("*.npz"):
        data = path.read_bytes()
        at = data.find(b"\x93NUMPY")
        if at < 0:
            continue
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("action.npy", data[at:])
            archive.writestr("state.npy", data[at : at + 4096])


def make_hdf5(folder: Path) -> None:
    import h5py

    (folder / "raw").mkdir(parents=True)
    with h5py.File(folder / "raw/a.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": "go"})
        for number in range(2):
            demo, values = data.create_group(f"demo_{number}"), arrays_of(number, 4)
            demo.attrs["num_samples"] = 4
            demo.create_dataset("actions", data=values["action"])
            demo.create_dataset("obs/state", data=values["state"])
            demo.create_dataset("obs/image", data=values["image"], compression="gzip")
            demo.create_dataset("obs/text", data=["go"] * 4)


# Text.


def make_spec(folder: Path) -> None:
    import rlds_fixture

    (folder / "tiny.yaml").write_text(yaml.safe_dump(rlds_fixture.spec_values()))


def read_spec(folder: Path) -> None:
    from whale.data.spec.spec import load_spec

    load_spec("tiny", folder)


def make_params(folder: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())


def read_params(folder: Path) -> None:
    from whale.pipeline_file import nodes_of
    from whale.planning.profile import load_profile

    nodes_of(folder)
    load_profile(folder / "params.yaml")


def make_description(folder: Path) -> None:
    (folder / "a").write_text("a")
    row = {"path": "a.npz", "bytes": 1, "sha256": sha256_of_file(folder / "a")}
    (folder / "d.json").write_text(json.dumps({"name": "d", "link": "raw/d", "files": [row]}))


def read_description(folder: Path) -> None:
    from whale.data.ingest.sources.location import locate

    (folder / "raw/d").mkdir(parents=True, exist_ok=True)
    (folder / "raw/d/a.npz").write_text("a")
    locate(folder / "d.json", "d", "1.0.0", folder, "npz")


# Artefacts: shards, models, bundles.


def make_shards(folder: Path) -> None:
    from tiny_shards import write_tiny_shards

    write_tiny_shards(folder, "tiny", [3, 4, 2])


def read_shards(folder: Path) -> None:
    from whale.data.storage.shards import ShardSet
    from whale.data.workbench.shard_check import check_shards

    check_shards(folder)
    shards = ShardSet.open(folder)
    assert isinstance(shards.statistics, dict) and isinstance(shards.contract, dict)
    for split in shards.splits:
        for row in shards.episodes(split)[:4]:
            shards.read_arrays(row)
            for role in row.frames:
                shards.read_frames(row, 0, min(row.num_steps, 4), role)


def reseal_shards(folder: Path) -> None:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        for entry in manifest["shards"]:
            file = folder / entry["file"]
            entry |= {"bytes": file.stat().st_size, "sha256": sha256_of_file(file)}
        for name, entry in manifest["files"].items():
            entry |= {"bytes": (folder / name).stat().st_size, "sha256": sha256_of_file(folder / name)}
        path.write_text(json.dumps(manifest))
    except Exception:  # the manifest itself is the mutant
        return


def make_model(folder: Path) -> None:
    import tiny_models

    from whale.models.trunk.folder import save_model

    save_model(folder, tiny_models.dynamics())


def read_model(folder: Path) -> None:
    from whale.models.dynamics.dynamics import Dynamics

    Dynamics.restore(folder)


def make_bundle(folder: Path) -> None:
    import tiny_world

    bundle = tiny_world.write_bundle(folder / "made")
    for path in bundle.iterdir():
        path.rename(folder / path.name)
    shutil.rmtree(folder / "made")


def read_bundle(folder: Path) -> None:
    import tiny_world

    from whale.worlds.load import load

    load(folder, robot=tiny_world.ROBOT)


def reseal_bundle(folder: Path) -> None:
    from whale.common.files import MANIFEST_NAME
    from whale.seal import seal

    try:
        json.loads((folder / MANIFEST_NAME).read_bytes())
    except (ValueError, RecursionError):  # the manifest itself is the mutant
        return
    (folder / MANIFEST_NAME).unlink()
    seal(folder, sha256_of_file)


# Pictures and messages.


def make_images(folder: Path) -> None:
    import cv2

    from whale.data.storage.images import encode

    image = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    (folder / "a.jpg").write_bytes(encode(image, 90))
    (folder / "b.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())


def read_images(folder: Path) -> None:
    from whale.data.storage.images import canonical_frame, decode, glance

    for path in sorted(folder.glob("?.*")):
        data = path.read_bytes()
        for read in (
            decode,
            lambda data: glance(data, 8),
            lambda data: canonical_frame(data, resolution=16, quality=90, hw=(24, 24)),
        ):
            try:
                read(data)
            except Exception as error:
                if type(error).__name__ != "ImageError":
                    raise


def make_message(folder: Path) -> None:
    from whale.policies.messages import pack

    (folder / "m").write_bytes(pack({"actions": np.zeros((4, 7), np.float32), "t": 1.5, "s": "go", "l": [1, None]}))


def read_message(folder: Path) -> None:
    from whale.policies.messages import unpack

    unpack((folder / "m").read_bytes(), "ws://127.0.0.1:1")


def make_array(folder: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros((4, 7), np.float32))
    (folder / "a.npy").write_bytes(stream.getvalue())


def read_array(folder: Path) -> None:
    from whale.data.storage.shards import parse_array

    parse_array((folder / "a.npy").read_bytes(), folder / "a.npy", "a")


FORMATS = {
    "yaml spec": Format(make_spec, read_spec, ("*.yaml",)),
    "params.yaml, dvc.yaml": Format(make_params, read_params, ("*.yaml",)),
    "source description": Format(make_description, read_description, ("d.json",)),
    "rlds json": Format(make_rlds, lambda f: ingest_all(f, rlds_spec()), ("raw/*.json",)),
    "rlds tfrecord": Format(make_rlds, lambda f: ingest_all(f, rlds_spec()), ("raw/*.tfrecord-*",), reseal_records),
    "lerobot v2": Format(make_lerobot2, lambda f: ingest_all(f, lerobot_spec("2.1.0")), ("raw/meta/*.json*",)),
    "lerobot v3": Format(make_lerobot3, lambda f: ingest_all(f, lerobot_spec("3.0.0")), ("raw/meta/**/*.*",)),
    "parquet": Format(make_lerobot2, lambda f: ingest_all(f, lerobot_spec("2.1.0")), ("raw/**/*.parquet",)),
    "mp4": Format(make_lerobot2, lambda f: ingest_all(f, lerobot_spec("2.1.0")), ("raw/**/*.mp4",)),
    "npz": Format(make_npz, lambda f: ingest_all(f, array_spec("npz", "image", "state", "action")), ("raw/*.npz",), reseal_npz),
    "hdf5": Format(make_hdf5, lambda f: ingest_all(f, array_spec("hdf5", "obs/image", "obs/state", "actions")), ("raw/*.hdf5",)),
    "npy": Format(make_array, read_array, ("*.npy",)),
    "images": Format(make_images, read_images, ("*.jpg", "*.png")),
    "shards": Format(make_shards, read_shards, ("*.json", "*.parquet", "train/*.tar"), reseal_shards),
    "checkpoint": Format(make_model, read_model, ("*.json", "*.safetensors")),
    "world bundle": Format(make_bundle, read_bundle, ("*.json", "*/*.json", "starts/*.npz"), reseal_bundle),
    "policy message": Format(make_message, read_message, ("m",)),
}  # fmt: skip
