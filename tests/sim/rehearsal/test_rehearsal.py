"""The 27 datasets of Table 11 in small: what is read of them is what the arm did, and every planted fault shows."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from ingest_fixture import ingest
from oxe_facts import FACTS
from rehearsal_truth import MEANING, expected_actions

from pipelines.collect_rehearsal import Args, run
from whale.common.config import load_yaml
from whale.common.errors import BadDataError, ConfigError
from whale.common.json_files import read_json
from whale.common.run import Run
from whale.data.ingest.sources.rlds import RldsSource
from whale.data.spec.spec import DatasetSpec, load_spec
from whale.data.storage.shards import ShardSet
from whale.sim.fleet.render import Camera, render
from whale.sim.rehearsal.checks import require_sound
from whale.sim.rehearsal.collect import RehearsalConfig, motions
from whale.sim.rehearsal.errata import ERRATA, has_it
from whale.sim.rehearsal.recording import instruction, palette
from whale.sim.rehearsal.schemas import load_schemas

ROOT = Path(__file__).parents[3]
SPECS, SCHEMAS = ROOT / "data_specs", ROOT / "data_specs" / "rehearsal" / "schemas.yaml"
NAMES = list(load_yaml(SCHEMAS))
SMALL = RehearsalConfig(datasets=NAMES, train_episodes=11, other_episodes=2, min_steps=6, max_steps=7, train_shards=3)
ABSOLUTE = [name for name in NAMES if MEANING[name][0] == "reached" and name != "bridge_orig"]
PLANTED = [name for name in NAMES if load_yaml(SCHEMAS)[name].get("errata")]
# As many steps as the gate wants before it judges.
LARGE = RehearsalConfig(
    datasets=[*PLANTED, *ABSOLUTE], train_episodes=34, other_episodes=2, min_steps=17, max_steps=21, train_shards=2
)


def collect(root: Path, config: RehearsalConfig) -> Path:
    run(Args(schemas=SCHEMAS, collect_rehearsal=config, seed=0), Run(root))
    return root


def ingested(raw: Path, root: Path, config: RehearsalConfig, spec: DatasetSpec | None, name: str):
    """(shards, quality.json, report) of one dataset, under the policy that fails on any fault."""
    spec = spec or load_spec(name, SPECS)
    out, report = ingest(raw / spec.source.dataset, root, spec, name=name, resolution=32)
    return ShardSet.open(out), read_json(out / "quality.json"), report


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    raw = collect(tmp_path_factory.mktemp("raw"), SMALL)
    root = tmp_path_factory.mktemp("shards")
    return {name: ingested(raw, root, SMALL, None, name) for name in NAMES}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("raw"), LARGE)


def schema_of(name):
    return load_schemas(SCHEMAS, [name])[name]


def episodes(name, shards, config=SMALL):
    """(index row, the motion that it was recorded of) of every kept episode."""
    schema = schema_of(name)
    made = {split: motions(name, schema, split, config, 0) for split in schema.splits}
    slices = load_spec(name, SPECS).source.slices()
    for split in shards.splits:
        for row in shards.episodes(split):
            yield row, made[slices[split].split][int(row.key.rsplit("-", 1)[1])]


WRONG = {
    "errata: no such erratum: outliers; did you mean 'outlier'?": ("errata", ["outliers"]),
    "errata: no_instruction has nothing to change here: no language_instruction": ("errata", ["no_instruction"]),
    "steps.x: zeros takes no factor": ("x", "float32[2] 50*zeros2"),
    "steps.x: filler takes no ahead": ("x", "float32[2] next3_filler2"),
    "steps.x: xyz takes no width": ("x", "float32[3] xyz3"),
    "steps.x: no such signal: xyzz; did you mean 'xyz'?": ("x", "float32[3] xyzz"),
    "steps.x: 3 columns of xyz in a feature of 4": ("x", "float32[4] xyz"),
    "steps.x: 0 columns of nothing in a feature of 4": ("x", "float32[4]"),
    "steps.x: not a feature: flot32": ("x", "flot32[3] xyz"),
    "steps.x: not a view: side; ": ("x", "jpeg[32,32,3] side"),
    "steps.x: primary takes no factor": ("x", "jpeg[32,32,3] 2*primary"),
    "steps.x: not a text: title; ": ("x", "text title"),
    "steps.x: code points are codepointsN in a feature [N]": ("x", "int32[512] codepoints100"),
    "steps: not a feature: x: 7": ("x", 7),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_a_schema_says_and_nothing_heeds_is_named_before_work_begins(tmp_path, said):
    """An unknown erratum was passed over, a factor dropped, a signal was a KeyError in a worker."""
    where, value = WRONG[said]
    schema = load_yaml(SCHEMAS)["kuka"]
    schema = schema | {where: value} if where == "errata" else schema | {"steps": schema["steps"] | {where: value}}
    path, config = tmp_path / "schemas.yaml", SMALL.model_copy(update={"datasets": ["kuka"]})
    path.write_text(yaml.safe_dump({"kuka": schema}))
    with pytest.raises(ConfigError, match=re.escape(f"kuka.{said}")) as error:
        run(Args(schemas=path, collect_rehearsal=config, seed=0), Run(tmp_path / "out"))
    assert error.value.file == path and not list(tmp_path.glob("out/*/*"))


def test_the_schemas_of_table_11_are_sound():
    require_sound(load_schemas(SCHEMAS, NAMES), SCHEMAS)


def test_an_episode_has_room_for_every_erratum():
    with pytest.raises(ConfigError, match="min_steps"):
        RehearsalConfig.parse(SMALL.model_dump() | {"min_steps": 4}, file="x")


def test_there_is_one_for_each_dataset_of_table_11():
    assert set(NAMES) == set(FACTS) == set(MEANING)
    assert {erratum for schema in load_schemas(SCHEMAS, NAMES).values() for erratum in schema.errata} == ERRATA


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_canonical_actions_are_what_the_arm_did(name, small):
    """Through TFDS, files, reader and spec, against SciPy on the motion; within 1e-5, in a dataset's own units."""
    seen = 0
    shards, _, _ = small[name]
    for row, motion in episodes(name, shards):
        arrays = shards.read_arrays(row, ("action", "action_valid"))
        expected = expected_actions(name, motion)
        assert arrays["action"].shape == expected.shape
        valid = arrays["action_valid"]
        planted = has_it(motion.number) and set(schema_of(name).errata) & {"outlier", "dead_pitch"}
        assert valid[:-1].all() or planted
        rows = np.flatnonzero(valid)
        if planted and "dead_pitch" in schema_of(name).errata:
            rows = rows[rows != 2]
        np.testing.assert_allclose(arrays["action"][rows], expected[rows], atol=1.0e-5)
        seen += len(rows)
    assert seen > 40


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_kept_frame_shows_its_scene_in_red_green_and_blue(name, small):
    """BGR, absent encodings, odd sizes: against the scene drawn at the size of the shards."""
    shards, _, _ = small[name]
    row, motion = next(iter(episodes(name, shards)))
    front = MEANING[name][3]
    frame = shards.read_frames(row, 0, 1)[0].astype(float)
    drawn = render(motion.states.select(slice(front, front + 1)), Camera(32, 32), palette(name))[0].astype(float)
    assert abs(frame - drawn).mean() < 0.5 * abs(frame - drawn[..., ::-1]).mean()


@pytest.mark.slow
def test_instructions_arrive_as_they_were_said(small):
    for name in NAMES:
        shards, _, _ = small[name]
        for row, motion in episodes(name, shards):
            silent = has_it(motion.number) and "no_instruction" in schema_of(name).errata
            assert row.language == ("" if silent else instruction(schema_of(name), motion)), name


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_episode_of_several_files_is_read(name, small):
    _, _, report = small[name]
    splits = {part.split for part in load_spec(name, SPECS).source.slices().values()}
    assert report["read"]["episodes"] == sum(map(SMALL.episodes, splits))
    files = [source["file"] for source in small[name][0].manifest["sources"]]
    assert len(files) >= SMALL.train_shards and len(splits & set(schema_of(name).splits)) == len(splits)
    assert all(("-of-" in file) != bool(schema_of(name).file_names) for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE.datasets)
def test_the_gate_passes_a_whole_dataset_and_says_what_was_planted(name, large, tmp_path):
    shards, quality, report = ingested(large, tmp_path, LARGE, None, name)
    said = {(verdict["detector"], verdict["scope"]): verdict["outcome"] for verdict in quality["verdicts"]}
    assert "fault" not in said.values()
    errata = schema_of(name).errata
    faulty = [motion.number for row, motion in episodes(name, shards, LARGE) if has_it(motion.number)]
    if "unsuccessful" in errata:
        assert not faulty and report["dropped"]["filtered"]["episodes"] == 7  # 1, 6, ..., 31
    if "outlier" in errata:
        rows = {row.key: int((~shards.read_arrays(row, ("action_valid",))["action_valid"]).sum())
                for row, motion in episodes(name, shards, LARGE) if has_it(motion.number)}  # fmt: skip
        assert len(rows) == 7 and set(rows.values()) == {1}
        assert shards.statistics["action"]["max"][1] < 1.0
    if "black_secondary" in errata:
        assert said["black_camera", "secondary"] == "advice"
    if "no_instruction" in errata:
        assert said["language", "dataset"] == "advice"
    if "idle" in errata:
        assert said["idle", "dataset"] == "advice"
    if "dead_pitch" in errata:
        (found,) = [v["found"] for v in quality["verdicts"] if v["detector"] == "dead_dims"]
        assert "masked: pitch" in found
    if "whole_turns" in errata:
        raw = RldsSource(next((large / schema_of(name).dataset).iterdir()))
        steps = [episode.steps["action"] for shard in range(2) for episode in raw.read_shard("train", shard)]
        assert max(np.abs(each[:, 10]).max() for each in steps) > 6.0
        assert np.abs(shards.statistics["action"]["max"][3]) < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ABSOLUTE)
def test_poses_that_a_spec_takes_for_deltas_are_refused(name, large, tmp_path):
    """As OpenVLA and Octo read these three."""
    values = load_yaml(SPECS / f"{name}.yaml")
    for part in ("translation", "rotation"):
        values["action"][part]["ops"] = [op for op in values["action"][part]["ops"] if "difference" not in op]
    values["action"]["rotation"] = {"fill": 0.0}
    values["action"]["contract"]["live"] = values["action"]["contract"]["live"].translate({ord(c): None for c in "rpw"})
    with pytest.raises(BadDataError, match="absolute_as_delta"):
        ingested(large, tmp_path, LARGE, DatasetSpec.parse(values, file="mutant.yaml"), name)


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes(large, tmp_path):
    config = LARGE.model_copy(update={"datasets": ["kuka"]})
    again = collect(tmp_path / "again", config)
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert len(files) == 4
    assert all((again / file).read_bytes() == (large / file).read_bytes() for file in files)


def test_an_unknown_dataset_is_named():
    with pytest.raises(ConfigError, match="no such dataset to rehearse"):
        load_schemas(SCHEMAS, ["kuka", "no_such"])


def test_a_split_needs_an_episode_a_shard():
    with pytest.raises(ConfigError, match="one episode per shard"):
        RehearsalConfig.parse(SMALL.model_dump() | {"train_shards": 12}, file="params.yaml")
