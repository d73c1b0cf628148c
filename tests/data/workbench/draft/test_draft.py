"""A dataset that nobody described: drafted, read through the draft, compared with another computation."""

import json
import re

import h5py
import numpy as np
import pytest
import yaml
from ingest_fixture import ingest
from lerobot_fixture import CAMERA, picture, rows, write_v2
from odd_dataset import BROWN, expected_action, write_odd
from odd_dataset import episode as odd_episode
from rlds_fixture import episodes, write_rlds

from whale.common.errors import BadDataError, MissingInputError
from whale.data.spec.spec import NAME, DatasetSpec, load_spec
from whale.data.storage.shards import ShardSet
from whale.data.workbench.draft.draft import _quoted, draft_spec, name_of
from whale.data.workbench.draft.sample import take_sample
from whale.data.workbench.spec_check import check_spec


def drafted(path, tmp_path, name) -> DatasetSpec:
    draft = draft_spec(take_sample(path), name)
    (tmp_path / "specs").mkdir(exist_ok=True)
    (tmp_path / "specs" / f"{name}.yaml").write_text(draft.text)
    return load_spec(name, tmp_path / "specs")


def test_odd_conventions_are_right_to_1e_6_with_a_drafted_spec_of_at_most_30_lines(tmp_path):
    """Quaternion poses, a gripper that says 1 for closed, BGR, three cameras of 48 x 80: no Python, no line changed."""
    spec = drafted(write_odd(tmp_path), tmp_path, "odd_robot")
    assert len((tmp_path / "specs" / "odd_robot.yaml").read_text().splitlines()) <= 30
    assert {role: (each.channels, each.hw) for role, each in spec.cameras.items()} == {
        role: ("bgr", [48, 80]) for role in ("primary", "secondary", "wrist")
    }
    out, report = ingest(tmp_path, tmp_path, spec, cameras=["primary", "secondary", "wrist"], resolution=64)
    assert sum(count["episodes"] for count in report["kept"].values()) == 24
    shards = ShardSet.open(out, verify="always")
    for row in shards.episodes("train"):
        seed = int(row.key.rsplit("-", 1)[1])
        arrays = shards.read_arrays(row)
        np.testing.assert_allclose(arrays["action"], expected_action(odd_episode(seed, 28)), atol=1e-6)
        assert arrays["action_valid"][:-1].all() and row.language == f"task {seed}"
    frame = shards.read_frames(shards.episodes("train")[0], 3, 4)[0]
    assert np.abs(np.median(frame.reshape(-1, 3), axis=0) - BROWN).max() <= 3
    verdicts = json.loads((out / "quality.json").read_text())["verdicts"]
    found = {(verdict["detector"], verdict["outcome"]) for verdict in verdicts}
    assert {("action_sign", "ok"), ("gripper_polarity", "ok"), ("channel_order", "ok")} <= found


def test_a_draft_of_plain_rlds_and_of_lerobot_reads_its_dataset(tmp_path):
    rlds = write_rlds(tmp_path / "a", {"train": [episodes([9] * 4)], "val": [episodes([8])]})
    lerobot = write_v2(tmp_path / "b" / "tiny", [8, 9, 7])
    for path, name in ((rlds, "plain"), (lerobot, "arm")):
        spec = drafted(path, tmp_path, name)
        assert check_spec(spec) == []
        _, report = ingest(path, tmp_path, spec, name=name, resolution=32)
        assert report["dropped"] == {}
    assert spec.cameras["primary"].key == CAMERA and spec.robot.control_hz == 10.0


def write_robomimic(path, num_demos=16, length=40):
    """A position in a feature of its own, two fingers, a controller's commands, the simulator's state."""
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["problem_info"] = json.dumps({"language_instruction": "open the drawer"})
        for number in range(num_demos):
            values, demo = rows(number, length), file["data"].create_group(f"demo_{number}")
            pose, opening = values["observation.state"][:, :3], values["observation.state"][:, 6:]
            command = values["action"] * ([10.0] * 6 + [1.0])
            command[:, 6] = 1.0 - 2.0 * command[:, 6]  # 1 closes
            demo["actions"], demo["obs/robot0_eef_pos"], demo["states"] = command, pose, np.ones((length, 45))
            demo["obs/robot0_gripper_qpos"] = opening * [0.04, -0.04]
            demo["obs/agentview_image"] = np.stack([picture(number % 4, step) for step in range(length)])


def test_a_draft_of_robomimic_hdf5_reads_its_dataset_and_the_gate_confirms_it(tmp_path):
    (tmp_path / "arm").mkdir()
    write_robomimic(tmp_path / "arm" / "demo.hdf5")
    spec = drafted(tmp_path / "arm", tmp_path, "arm")
    assert (spec.state.pose.key, spec.state.pose.form) == ("obs/robot0_eef_pos", "xyz")
    assert (spec.language.scope, spec.action.translation.unit) == ("episode", "scaled")
    out, report = ingest(tmp_path / "arm", tmp_path, spec, resolution=32)
    assert report["dropped"] == {} and ShardSet.open(out).episodes("train")[0].language == "open the drawer"
    verdicts = json.loads((out / "quality.json").read_text())["verdicts"]
    outcomes = {verdict["detector"]: verdict["outcome"] for verdict in verdicts}
    assert (outcomes["action_sign"], outcomes["gripper_polarity"]) == ("ok", "ok")


def test_every_guess_has_a_reason_and_doubtful_lines_are_marked(tmp_path):
    draft = draft_spec(take_sample(write_odd(tmp_path)), "odd_robot")
    assert {
        "action.form",
        "action.gripper",
        "cameras.primary",
        "state.pose",
        "robot.control_hz",
    } <= draft.guesses.keys()
    assert all(guess.why for guess in draft.guesses.values())
    marked = [line for line in draft.text.splitlines() if "# ?" in line]
    assert any("control_hz" in line for line in marked) and any("licence" in line for line in marked)


def test_what_is_no_dataset_and_what_has_no_action_are_errors(tmp_path):
    with pytest.raises(MissingInputError, match="none of the formats"):
        take_sample(tmp_path)
    np.savez(tmp_path / "a.npz", position=np.zeros((5, 3)), image=np.zeros((5, 32, 32, 3), np.uint8))
    with pytest.raises(BadDataError, match="no feature action or actions"):
        draft_spec(take_sample(tmp_path), "nothing")


@pytest.mark.parametrize(
    "folder, name", [("My Robot-2", "my_robot_2"), ("1.0.0", "1_0_0"), ("...", "dataset"), ("x" * 99, "x" * 64)]
)
def test_a_folder_name_becomes_a_spec_name(folder, name):
    assert name_of(folder) == name and re.fullmatch(NAME, name)


@pytest.mark.parametrize(
    "key", ["obs/front", 'a"b', "a\\b", "a: {b", "on", "null", "1.0", "", "a\nb # c", "\U0001f600\x7f"]
)
def test_a_key_stands_in_the_draft_as_it_is(key):
    line = f"{{key: {_quoted(key)}, slice: [0, 3]}}"
    assert "\n" not in line and yaml.safe_load(line) == {"key": key, "slice": [0, 3]}


def test_pictures_under_an_odd_name_are_drafted_and_read(tmp_path):
    image = np.stack([picture(0, step) for step in range(5)])
    (tmp_path / "arm").mkdir()
    np.savez(tmp_path / "arm" / "0.npz", action=rows(0, 5)["action"], **{'the "top", or \\': image})
    assert drafted(tmp_path / "arm", tmp_path, "arm").cameras["primary"].key == 'the "top", or \\'


def write_npz(folder, num_episodes):
    """Episodes of every kind of array: pictures, numbers, a sensor of the gripper, a text without an axis."""
    folder.mkdir()
    for number in range(num_episodes):
        values = rows(number, 12)
        np.savez(
            folder / f"{number:03d}.npz", action=values["action"], pose=values["observation.state"][:, :6],
            opening=values["observation.state"][:, 6:], force=np.ones((12, 3)), **{"a\nb #": np.ones(12)},
            image=np.stack([picture(number % 4, step) for step in range(12)]), instruction=np.array("push é"),
        )  # fmt: skip
    return folder


def test_an_npz_draft_reads_the_episode_s_text_and_the_sensor_and_names_what_it_does_not_read(tmp_path):
    folder = write_npz(tmp_path / "arm", 4)
    draft = draft_spec(take_sample(folder), "arm")
    assert draft.unread == {"a\nb #": "1 column", "force": "3 columns"}
    spec = drafted(folder, tmp_path, "arm")
    assert (spec.language.key, spec.language.scope, spec.state.gripper.key) == ("instruction", "episode", "opening")
    assert check_spec(spec) == []
    out, report = ingest(folder, tmp_path, spec, resolution=32)
    assert {split: count["episodes"] for split, count in report["kept"].items()} == {"train": 2, "val": 1, "test": 1}
    assert ShardSet.open(out).episodes("val")[0].language == "push é"


@pytest.mark.parametrize(
    ("source", "splits"),
    [
        ({"train": 9}, {"train": "train[:76%]", "val": "train[76%:88%]", "test": "train[88%:]"}),
        ({"train": 200}, {"train": "train[:90%]", "val": "train[90%:95%]", "test": "train[95%:]"}),
        ({"train": 40, "validation": 3}, {"train": "train[:90%]", "val": "validation", "test": "train[90%:]"}),
        ({"train": 40, "val": 3, "test": 2}, {"train": "train", "val": "val", "test": "test"}),
        ({"train": 40, "val": 3, "validation": 3, "test": 2}, {"train": "train", "val": "val", "test": "test"}),
        ({"validation": 20}, {"train": "validation[:80%]", "val": "validation[80%:90%]", "test": "validation[90%:]"}),
        ({"test": 3}, {"train": "test[:32%]", "val": "test[32%:66%]", "test": "test[66%:]"}),
        ({"train": 2}, {"train": "train"}),
    ],
)
def test_a_draft_has_the_three_splits_and_cuts_what_the_source_lacks(tmp_path, source, splits):
    raw = write_rlds(tmp_path, {name: [episodes([3] * count)] for name, count in source.items()})
    assert drafted(raw, tmp_path, "tiny").source.splits == splits


@pytest.mark.real_data
def test_the_bridge_sample_is_drafted_as_deltas_in_metres(real_data, tmp_path):
    spec = drafted(real_data / "octo_bridge_rlds" / "bridge_dataset" / "1.0.0", tmp_path, "bridge")
    assert (spec.action.translation.ops, spec.action.translation.unit) == ([], "m")
    assert spec.action.gripper.raw == "absolute" and len(spec.cameras) == 4


@pytest.mark.real_data
def test_the_metaworld_sample_is_drafted_as_three_numbers_and_a_gripper(real_data, tmp_path):
    spec = drafted(real_data / "ivideogpt_metaworld_demos", tmp_path, "metaworld")
    assert (spec.source.format, spec.action.rotation.fill, spec.action.gripper.slice) == ("npz", 0.0, [3, 4])
    assert spec.action.contract.live == "xyzg" and check_spec(spec) == []
