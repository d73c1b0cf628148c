"""The preview page: complete, self-contained, and it says what the gate says."""

import re

import numpy as np
import pytest
import yaml
from lerobot_fixture import lerobot_spec, write_v2
from odd_dataset import write_odd
from rlds_fixture import episodes, spec_values, tiny_spec, write_rlds

from whale.commands.data.spec_preview import preview_page
from whale.common.errors import ConfigError
from whale.data.ingest.sources.lerobot import LeRobotSource
from whale.data.ingest.sources.rlds import RldsSource
from whale.data.spec.episode import episode_key
from whale.data.spec.spec import DatasetSpec
from whale.data.workbench.draft.draft import draft_spec
from whale.data.workbench.draft.preview import gripper_events, preview
from whale.data.workbench.draft.sample import take_sample


@pytest.fixture
def page(tmp_path):
    train = episodes([12] * 5)
    train[1]["steps/is_last"] = np.zeros(12, np.int64)
    train[2]["steps/language_instruction"] = [b"<script>alert(1)</script>"] * 12
    train[3]["steps/observation/image"][2] = b"not an image"
    source = RldsSource(write_rlds(tmp_path, {"train": [train], "val": [episodes([4])]}))
    return preview_page(tiny_spec(), preview(source, tiny_spec(), 5))


def test_the_page_shows_every_part_and_refers_to_nothing_outside(page):
    for title in ("Verdicts", "Frames", "Actions", "Gripper", "Distributions"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("data:image/png;base64,") >= 6
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "<script" not in page
    assert "default-src 'none'" in page


def test_text_of_the_data_is_escaped_and_faults_and_unusable_episodes_are_named(page):
    assert "&lt;script&gt;" in page
    assert "truncated_episode" in page and "decode_error" in page and "neither JPEG nor PNG" in page


def test_the_page_says_which_camera_models_see_and_what_the_others_are(tmp_path, page):
    assert "Models see primary and no other camera." in page and "ingest.cameras" not in page
    directory = write_odd(tmp_path)
    spec = DatasetSpec.parse(
        yaml.safe_load(draft_spec(take_sample(directory), "odd_robot").text), file="odd_robot.yaml"
    )
    text = preview_page(spec, preview(RldsSource(directory), spec, 2))
    others = [role for role in spec.cameras if role != "primary"]
    assert len(others) == 2 and f"{', '.join(others)}: stored beside it if ingest.cameras" in text
    assert all(f"{role} (no model sees it)" in text for role in others) and "primary (what models see)" in text


def test_a_wrong_spec_shows_in_the_verdicts(tmp_path):
    write_odd(tmp_path)
    source = RldsSource(write_rlds(tmp_path, {"train": [episodes([30] * 20)], "val": [episodes([4])]}))
    values = spec_values()
    values["action"]["translation"]["ops"] = [{"scale": {"factor": -1.0, "offset": 0.0}}]
    found = preview(source, tiny_spec(action=values["action"]), 20).report["verdicts"]
    wrong = {(verdict["detector"], verdict["scope"]) for verdict in found if verdict["outcome"] == "fault"}
    assert wrong == {("action_sign", axis) for axis in "xyz"}


def shown(source, split, count=99) -> list[str]:
    values = spec_values()["source"]
    found = preview(source, tiny_spec(source=values | {"splits": {"train": split}}), count)
    return [look.episode.key for look in found.looks]


def test_the_episodes_shown_are_those_of_the_train_slice(tmp_path):
    source = RldsSource(write_rlds(tmp_path, {"train": [episodes([6] * 4), episodes([6] * 6)], "val": [episodes([4])]}))
    keys = [episode_key("tiny", "train", number) for number in range(10)]
    assert shown(source, "train[50%:]") == keys[5:] and shown(source, "train[10%:30%]") == keys[1:3]
    assert shown(source, "train[10%:]", 2) == keys[1:3] and shown(source, "train") == keys


def test_the_episodes_shown_are_those_that_a_hash_gives_to_train(tmp_path):
    source = LeRobotSource(write_v2(tmp_path / "tiny", [4] * 12), "tiny")
    spec = lerobot_spec()
    splits = {"val": "hash(30%)", "train": "hash(70%)"}
    spec = spec.model_copy(update={"source": spec.source.model_copy(update={"splits": splits})})
    part = spec.source.slices()["train"]
    held = [episode_key("tiny", "train", number) for number in range(12) if part.holds(number)]
    assert [look.episode.key for look in preview(source, spec, 99).looks] == held and 0 < len(held) < 12


def test_a_split_that_the_source_lacks_is_an_error_of_the_spec(tmp_path):
    source = RldsSource(write_rlds(tmp_path, {"train": [episodes([6])], "val": [episodes([4])]}))
    with pytest.raises(ConfigError, match=r"source\.splits\.train"):
        shown(source, "test")


def test_gripper_events_are_the_steps_at_which_the_command_changes():
    assert gripper_events(np.array([1.0, 1, 0, 0, 1, 0.8])) == [2, 4]
