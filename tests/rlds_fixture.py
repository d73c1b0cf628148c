"""Tiny raw RLDS datasets for tests, written without TensorFlow: a robot whose state integrates its actions."""

import json
from pathlib import Path

import numpy as np
import simplejpeg
import yaml
from rlds_bytes import encode_example, frame

from whale.data.ingest.sources.features import PACKAGE
from whale.data.ingest.sources.tfrecord import FRAMING_BYTES
from whale.data.spec.spec import DatasetSpec

SIZE = 24


def jpeg(rng: np.random.Generator, size: int = SIZE) -> bytes:
    """A smooth random picture, so that resizing and compression change it little."""
    corner = rng.integers(0, 200, 3)
    ramp = np.linspace(0, 50, size)[:, None, None] + np.linspace(0, 5, size)[None, :, None]
    return simplejpeg.encode_jpeg((corner + ramp).astype(np.uint8), quality=95, colorsubsampling="444")


def episode(rng: np.random.Generator, num_steps: int, instruction: str = "push the plate", size: int = SIZE) -> dict:
    """Flattened feature name -> stored values of one tf.Example."""
    action = rng.uniform(-0.1, 0.1, (num_steps, 7))
    action[:, 6] = rng.integers(0, 2, num_steps)
    pose = np.cumsum(action[:, :6], axis=0) - action[:, :6]  # before the action
    state = np.concatenate([pose, np.roll(action[:, 6:], 1, axis=0)], axis=1)
    steps = np.arange(num_steps)
    return {
        "steps/action": action.astype(np.float32).ravel(),
        "steps/observation/state": state.astype(np.float32).ravel(),
        "steps/observation/image": [jpeg(rng, size) for _ in steps],
        "steps/language_instruction": [instruction.encode()] * num_steps,
        "steps/is_first": (steps == 0).astype(np.int64),
        "steps/is_last": (steps == num_steps - 1).astype(np.int64),
        "steps/is_terminal": np.zeros(num_steps, np.int64),
        "steps/reward": (steps == num_steps - 1).astype(np.float32),
        "steps/discount": np.ones(num_steps, np.float32),
        "episode_metadata/success": np.array([num_steps % 2], np.int64),
        "episode_metadata/policy": [b"expert"],
    }


def episodes(lengths: list[int], seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [episode(rng, length) for length in lengths]


def write_rlds(
    root: Path,
    splits: dict[str, list[list[dict]]],
    name: str = "tiny",
    version: str = "1.0.0",
    tree: dict | None = None,
) -> Path:
    """`splits[split][file]` is a list of episodes, `tree` their features.json; returns <root>/<name>/<version>."""
    directory = root / name / version
    directory.mkdir(parents=True, exist_ok=True)
    infos = []
    for split, files in splits.items():
        payloads = [[encode_example(each) for each in file] for file in files]
        for index, file in enumerate(payloads):
            path = directory / f"{name}-{split}.tfrecord-{index:05d}-of-{len(files):05d}"
            path.write_bytes(b"".join(map(frame, file)))
        sizes = sum(path.stat().st_size for path in directory.glob(f"{name}-{split}.tfrecord-*"))
        num_bytes = sizes - FRAMING_BYTES * sum(map(len, files))
        infos.append({"name": split, "numBytes": str(num_bytes), "shardLengths": [str(len(file)) for file in files]})
    info = {"name": name, "version": version, "fileFormat": "tfrecord", "splits": infos}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    (directory / "features.json").write_text(json.dumps(tree or feature_tree()))
    return directory


def feature_tree() -> dict:
    observation = {"state": _tensor("7"), "image": _image()}
    flags = {name: _tensor(dtype="bool") for name in ("is_first", "is_last", "is_terminal")}
    scalars = {name: _tensor() for name in ("reward", "discount")}
    text = {"pythonClassName": PACKAGE + "text_feature.Text", "text": {}}
    step = {"action": _tensor("7"), "observation": _dict(observation), "language_instruction": text, **flags, **scalars}
    steps = {"pythonClassName": PACKAGE + "dataset_feature.Dataset", "sequence": {"feature": _dict(step)}}
    metadata = _dict({"success": _tensor(dtype="bool"), "policy": text})
    return _dict({"steps": steps, "episode_metadata": metadata})


def spec_values(**changes) -> dict:
    """A spec of the tiny dataset as plain values: actions as recorded, the last one undefined."""
    text = """
name: tiny
source: {format: rlds, dataset: tiny, version: "1.0.0", splits: {train: train, val: val}}
robot: {name: Tiny, arms: 1, control_hz: 10.0}
cameras:
  primary: {key: observation/image, channels: rgb, hw: [24, 24], view: fixed, rotate: 0, optional: false}
language: {key: language_instruction, encoding: utf8, scope: step, kind: natural}
state:
  pose: {key: observation/state, slice: [0, 6], form: xyz_rpy, units: [m, rad]}
  gripper: {key: observation/state, slice: [6, 7], rises_when: open}
action:
  translation: {key: action, slice: [0, 3], unit: m, ops: []}
  rotation: {key: action, slice: [3, 6], unit: rad, ops: []}
  gripper: {key: action, slice: [6, 7], raw: absolute, ops: []}
  contract: {frame: base, form: delta, live: xyzrpwg, limit: null, retraceable: true, last_step: undefined}
episodes: {filters: [], edits: [], min_steps: 2}
licence: {spdx: Apache-2.0, url: "", evidence: made here, citation: none}
expect: {episodes: null, steps: null, source: test}
errata: []
"""
    return yaml.safe_load(text) | changes


def tiny_spec(**changes) -> DatasetSpec:
    return DatasetSpec.parse(spec_values(**changes), file="data_specs/tiny.yaml")


def _dict(features: dict) -> dict:
    return {"pythonClassName": PACKAGE + "features_dict.FeaturesDict", "featuresDict": {"features": features}}


def _tensor(*dimensions: str, dtype: str = "float32", encoding: str = "none") -> dict:
    tensor = {"shape": {"dimensions": list(dimensions)}, "dtype": dtype, "encoding": encoding}
    return {"pythonClassName": PACKAGE + "tensor_feature.Tensor", "tensor": tensor}


def _image() -> dict:
    image = {"shape": {"dimensions": ["-1", "-1", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}
    return {"pythonClassName": PACKAGE + "image_feature.Image", "image": image}
