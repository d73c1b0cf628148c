"""The preview page: complete, self-contained, and it says what the gate says."""

import re

import numpy as np
import pytest
from odd_dataset import write_odd
from rlds_fixture import episodes, spec_values, tiny_spec, write_rlds

from whale.commands.spec_preview import preview_page
from whale.data.draft.preview import gripper_events, preview
from whale.data.sources.rlds import RldsSource


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


def test_a_wrong_spec_shows_in_the_verdicts(tmp_path):
    write_odd(tmp_path)
    source = RldsSource(write_rlds(tmp_path, {"train": [episodes([30] * 20)], "val": [episodes([4])]}))
    values = spec_values()
    values["action"]["translation"]["ops"] = [{"scale": {"factor": -1.0, "offset": 0.0}}]
    found = preview(source, tiny_spec(action=values["action"]), 20).report["verdicts"]
    wrong = {(verdict["detector"], verdict["scope"]) for verdict in found if verdict["outcome"] == "fault"}
    assert wrong == {("action_sign", axis) for axis in "xyz"}


def test_gripper_events_are_the_steps_at_which_the_command_changes():
    assert gripper_events(np.array([1.0, 1, 0, 0, 1, 0.8])) == [2, 4]
