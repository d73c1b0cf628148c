import re
from pathlib import Path

import pytest
import yaml
from rlds_fixture import spec_values, tiny_spec

from whale.common.errors import ConfigError
from whale.data.spec.spec import DatasetSpec, load_spec

SPECS = sorted(path.stem for path in (Path(__file__).parents[3] / "data_specs").glob("*.yaml"))


@pytest.mark.parametrize("name", SPECS)
def test_every_spec_in_the_project_is_valid(name, project_root):
    spec = load_spec(name, project_root / "data_specs")
    assert len((project_root / "data_specs" / f"{name}.yaml").read_text().splitlines()) <= 34
    assert spec.source.slices()


def refused(values, *says):
    with pytest.raises(ConfigError) as caught:
        DatasetSpec.parse(values, file="data_specs/tiny.yaml")
    message = str(caught.value)
    assert "data_specs/tiny.yaml" in message
    assert all(text in message for text in says), message


def changed(path, value):
    values = spec_values()
    node = values
    *parents, last = path.split(".")
    for part in parents:
        node = node[part]
    node[last] = value
    return values


@pytest.mark.parametrize(
    "path, value, says",
    [
        ("robot.arm", 1, "robot.arm"),
        ("robot.control_hz", 0.0, "robot.control_hz"),
        ("cameras.primary.channels", "grb", "cameras.primary.channels"),
        ("action.translation.ops", ["diference"], "did you mean 'difference'"),
        ("action.gripper.ops", [{"clip": {"low": 0.0}}], "action.gripper.ops.0"),
        ("action.contract.live", "zyx", "action.contract.live"),
        ("action.rotation", {"fill": 0.0, "unit": "rad"}, "action.rotation"),
        ("action.rotation.unit", "deg", "add {scale: {factor: 0.017453292519943295}} to ops"),
        ("action.translation.unit", "mm", "unit mm is not converted: add {scale: {factor: 0.001}} to ops"),
        ("source.splits", {"train": "train[:95]"}, "source.splits"),
        ("source.splits", {"../x": "train"}, "source.splits"),
        (
            "source.splits",
            {"train": "train[:90%]", "val": "train[20%:]"},
            "(train[:90%]) and val (train[20%:]) overlap",
        ),
        (
            "source.splits",
            {"val": "train[90%:]", "test": "train[90%:]", "train": "val"},
            "source.splits: val (train[90%",
        ),
        ("source.splits", {"train": "train", "val": "train[99%:]"}, "train (train) and val (train[99%:]) overlap"),
        ("source.splits", {"train": "train[95%:90%]"}, "must end behind its start"),
        ("source.splits", {"train": "train[:101%]"}, "at most at 100%"),
        ("source.splits", {"train": "hash(95%)", "val": "hash(5%)"}, "not for format rlds"),
        ("source.version", 1.0, "source.version"),
        ("episodes.edits", ["drop_middle"], "episodes.edits.0"),
        ("episodes.filters", [{"key": "x", "reason": "y"}], "exactly one of"),
    ],
)
def test_an_error_names_the_file_and_the_dotted_path(path, value, says):
    refused(changed(path, value), says)


def test_formats_without_splits_are_cut_from_all():
    npz = spec_values()["source"] | {"format": "npz"}
    refused(changed("source", npz | {"splits": {"train": "train[:95%]"}}), "format npz has one split, 'all'")
    refused(changed("source", npz | {"splits": {"train": "hash(95%)", "val": "hash(6%)"}}), "at most at 100%")
    refused(changed("source", npz | {"splits": {"train": "all[:95%]", "val": "hash(5%)"}}), "nor beside others")
    assert tiny_spec(source=npz | {"splits": {"train": "hash(95%)", "val": "hash(5%)"}}).source.slices()


def test_all_problems_are_reported_at_once():
    values = changed("robot.arms", 0)
    del values["language"]
    refused(values, "2 problems", "robot.arms", "language")


def test_a_misspelt_key_is_told_from_one_too_many():
    values = spec_values()
    values["robot"]["controll_hz"] = values["robot"].pop("control_hz")
    values["robot"]["colour"] = "red"
    refused(values, "robot.controll_hz: Extra inputs are not permitted (found: 10.0); did you mean control_hz?",
            "robot.colour: Extra inputs are not permitted (found: 'red')\n")  # fmt: skip


def test_difference_needs_a_defined_or_declared_last_step():
    values = changed("action.translation.ops", [{"difference": {}}])
    values["action"]["contract"]["last_step"] = "valid"
    refused(values, "drop_last")


def test_percent_slices_round_as_tfds_does_and_cover_the_split():
    spec = tiny_spec(source=spec_values()["source"] | {"splits": {"train": "train[:95%]", "val": "train[95%:]"}})
    slices = spec.source.slices()
    for total in (1, 7, 25, 87212):
        assert slices["train"].bounds(total) == (0, round(95 * total / 100))
        assert slices["val"].bounds(total) == (round(95 * total / 100), total)


def test_licence_and_errata_do_not_change_what_ingest_depends_on():
    edited = tiny_spec(
        licence=spec_values()["licence"] | {"spdx": "MIT"}, expect={"episodes": 1, "steps": 2, "source": "x"}
    )
    assert edited.digest() == tiny_spec().digest()
    assert tiny_spec(name="other").digest() != tiny_spec().digest()


def test_yaml_tags_and_misnamed_files_are_refused(tmp_path):
    (tmp_path / "evil.yaml").write_text("!!python/object/apply:os.system ['touch marker']")
    with pytest.raises(ConfigError, match="a tag that stands for no plain value"):
        load_spec("evil", tmp_path)
    assert not Path("marker").exists()


def test_the_guide_s_examples_are_valid_specs(project_root):
    guide = (project_root / "docs" / "how-to" / "add-a-dataset.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", guide, re.S)]
    (example,) = [block for block in blocks if "robot" in block]
    assert DatasetSpec.parse(example, file="docs/how-to/add-a-dataset.md").name == "my_robot"
    (accepting,) = [block for block in blocks if "accept" in str(block.get("episodes"))]
    assert DatasetSpec.parse(example | accepting, file="docs/how-to/add-a-dataset.md").episodes.accept
