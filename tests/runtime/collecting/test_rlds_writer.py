"""RLDS on disk: TFDS reads back what was written, and equal episodes give equal bytes in every process."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from pipelines.collect import write_robot
from whale.common.errors import BadDataError
from whale.data.ingest.canonical.canonical import canonical_episode
from whale.data.ingest.sources.rlds import RldsSource
from whale.data.spec.episode import Episode
from whale.data.spec.spec import load_spec
from whale.runtime.collecting.rlds_writer import SplitSource, parse_leaf, write_rlds
from whale.sim.fleet.collect import FleetConfig, generate_episodes, split_names
from whale.sim.fleet.dynamics import step
from whale.sim.fleet.robots import METADATA_SCHEMA, ROBOTS, SCHEMAS, Robot
from whale.sim.fleet.state import ABSENT, SceneState
from whale.sim.fleet.tasks import TASKS

ROOT = Path(__file__).parents[3]

CONFIG = FleetConfig(
    train_episodes=5,
    val_episodes=2,
    test_episodes=2,
    min_steps=4,
    max_steps=6,
    train_shards=4,
    unseen_episodes_per_task=1,
    unseen_test_episodes_per_task=1,
    unseen_novel_episodes=1,
    unseen_min_steps=4,
    unseen_max_steps=5,
)
WRITE_AGAIN = """
import sys
from pathlib import Path
import test_rlds_writer as this
this.write(Path(sys.argv[1]), this.ROBOTS["fleet_delta"])
"""


def write(out: Path, robot: Robot) -> None:
    splits = ((split, generate_episodes(robot, split, CONFIG, 0)) for split in split_names(robot))
    write_robot(out, robot, CONFIG, splits)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Path:
    """All five datasets, tiny."""
    out = tmp_path_factory.mktemp("fleet")
    for robot in ROBOTS.values():
        write(out, robot)
    return out


def expected(name: str, split: str) -> list[dict]:
    return list(generate_episodes(ROBOTS[name], split, CONFIG, seed=0))


def flat(tree: dict, prefix: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for name, value in tree.items():
        leaves |= flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: value}
    return leaves


@pytest.mark.parametrize("name", ROBOTS)
def test_tfds_reads_back_what_was_written(name, fleet):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(fleet / name / "1.0.0")
    assert set(builder.info.splits) == set(split_names(ROBOTS[name]))
    for split in split_names(ROBOTS[name])[:2]:
        wanted = expected(name, split)
        found = list(tfds.as_numpy(builder.as_dataset(split, shuffle_files=False)))
        assert len(found) == len(wanted)
        for record, episode in zip(found, wanted, strict=True):
            metadata = {k: v.decode() if isinstance(v, bytes) else v for k, v in record["episode_metadata"].items()}
            assert metadata == episode["episode_metadata"]
            steps = [flat(step) for step in record["steps"]]
            for key, values in flat(episode["steps"]).items():
                _assert_equal(key, np.stack([step[key] for step in steps]), values, SCHEMAS[name])


def _assert_equal(key: str, found: np.ndarray, wanted, schema: dict) -> None:
    for part in key.split("/"):
        schema = schema[part]
    if schema == "text":
        assert [text.decode() for text in found.tolist()] == wanted
    elif schema.startswith("jpeg"):
        assert np.abs(found.astype(int) - wanted).mean() < 4.0  # TensorFlow's fast decoder is dark by 1 to 2 levels
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", [name for name, robot in ROBOTS.items() if not robot.hidden_gain])
def test_our_reader_and_the_spec_give_actions_that_lead_from_state_to_state(name, fleet):
    spec, source = load_spec(name, ROOT / "data_specs"), RldsSource(fleet / name / "1.0.0")
    assert set(source.splits) == set(spec.source.splits)
    raw = [episode for shard in range(4) for episode in source.read_shard("train", shard)]
    for record, wanted in zip(raw, expected(name, "train"), strict=True):
        episode = canonical_episode(record, spec, "key", ["primary"])
        assert isinstance(episode, Episode), episode
        states = SceneState.from_vector(wanted["steps"]["observation"]["true_state"].astype(np.float64))
        states = states.select(slice("drop_first" in spec.episodes.edits, None))
        states.wall_x[:] = ABSENT  # relabelled motion is free of the wall; no start of these touches it
        valid = episode.action_valid.sum()
        assert valid == len(states.gripper) - 1
        reached = step(states.select(slice(0, valid)), episode.action[:valid])
        np.testing.assert_allclose(reached.pose, states.pose[1 : valid + 1], atol=2e-5)
        np.testing.assert_allclose(reached.gripper, states.gripper[1 : valid + 1], atol=2e-5)
        assert episode.metadata["policy"] == wanted["episode_metadata"]["policy"]
        assert episode.language == TASKS[wanted["episode_metadata"]["task"]].instruction


def test_a_train_split_has_as_many_shards_as_asked_and_the_sizes_add_up(fleet):
    folder = fleet / "fleet_relabel" / "1.0.0"
    info = json.loads((folder / "dataset_info.json").read_text())
    for split, lengths in (("train", [1, 1, 2, 1]), ("val", [2])):
        (entry,) = (entry for entry in info["splits"] if entry["name"] == split)
        files = sorted(folder.glob(f"fleet_relabel-{split}.tfrecord-*"))
        assert [int(length) for length in entry["shardLengths"]] == lengths and len(files) == len(lengths)
        assert sum(file.stat().st_size for file in files) == int(entry["numBytes"]) + 16 * sum(lengths)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_another_process_with_another_hash_seed_writes_the_same_bytes(fleet, tmp_path):
    places = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(places)}
    subprocess.run([sys.executable, "-c", WRITE_AGAIN, str(tmp_path)], check=True, env=environment, capture_output=True)
    assert digests(tmp_path / "fleet_delta") == digests(fleet / "fleet_delta")


def test_jpeg_bytes_are_those_of_our_encoder(fleet):
    source = (fleet / "fleet_relabel" / "1.0.0" / "fleet_relabel-train.tfrecord-00000-of-00004").read_bytes()
    frame = expected("fleet_relabel", "train")[0]["steps"]["observation"]["image_0"][0]
    encoded = simplejpeg.encode_jpeg(frame, quality=95, colorspace="RGB", colorsubsampling="444")
    assert encoded in source
    assert np.abs(simplejpeg.decode_jpeg(encoded).astype(int) - frame).mean() < 1.5


def _write(tmp_path: Path, episode: dict, **changes) -> None:
    split = SplitSource(**{"name": "train", "num_episodes": 1, "num_shards": 1, "episodes": [episode]} | changes)
    write_rlds(tmp_path, "x", "1.0.0", SCHEMAS["fleet_relabel"], {"episode_metadata": METADATA_SCHEMA}, [split])


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda steps: steps.update(action=steps["action"][:, :6]), "steps/action"),
        (lambda steps: steps.update(reward=steps["reward"].astype(np.float64)), "steps/reward"),
        (lambda steps: steps["observation"].pop("state"), "steps/observation"),
        (lambda steps: steps["language_instruction"].pop(), "steps/language_instruction"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_by_name(spoil, place, tmp_path):
    episode = expected("fleet_relabel", "val")[0]
    spoil(episode["steps"])
    with pytest.raises(BadDataError, match=place):
        _write(tmp_path, episode)


def test_too_few_episodes_and_empty_shards_are_refused(tmp_path):
    episode = expected("fleet_relabel", "val")[0]
    with pytest.raises(BadDataError, match="too few episodes"):
        _write(tmp_path / "a", episode, num_episodes=2)
    with pytest.raises(BadDataError, match="shard would be empty"):
        _write(tmp_path / "b", episode, num_shards=2)


def test_leaves_are_parsed_or_refused():
    assert parse_leaf("jpeg[64,80,3]") == ("jpeg", (64, 80, 3))
    assert parse_leaf("bool[]") == ("bool", ()) and parse_leaf("text") == ("text", ())
    with pytest.raises(BadDataError, match="not a feature"):
        parse_leaf("float32(7)")
