"""The gate inside ingest: what it finds in episodes and between them, and what the policy makes of it."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from ingest_fixture import digests, ingest
from rlds_fixture import episodes, jpeg, spec_values, tiny_spec, write_rlds

from whale.common.config import load_yaml
from whale.common.errors import BadDataError, ConfigError
from whale.data.ingest.quality.video import look
from whale.data.spec.spec import DatasetSpec
from whale.data.storage.images import encode

QUARANTINE = {"policy": "quarantine", "budget": 1}
ALL_MOVE = np.ones(19, bool)


def frames(num_frames=20, seed=0):
    rng = np.random.default_rng(seed)
    return [jpeg(rng, 16) for _ in range(num_frames)]


def black(size=16):
    return encode(np.zeros((size, size, 3), np.uint8), 95)


def test_black_frames_are_counted_wherever_they_stand():
    shown = frames()
    assert look(shown, ALL_MOVE).black == 0
    for place in (0, 7, 19):
        report = look([black() if t == place else frame for t, frame in enumerate(shown)], ALL_MOVE)
        assert report.black == 1 and not report.is_black
    assert look([black()] * 20, ALL_MOVE).is_black


def test_a_video_is_frozen_only_while_the_robot_moves():
    frozen = [frames()[0]] * 20
    assert look(frozen, ALL_MOVE).is_frozen
    assert not look(frozen, np.zeros(19, bool)).is_frozen
    assert not look(frames(), ALL_MOVE).is_frozen
    assert not look([*frames(16), *[frames()[0]] * 4], ALL_MOVE).is_frozen
    assert look([*frames(10), *[frames()[0]] * 10], ALL_MOVE).is_frozen


def test_exchanged_channels_show_in_dark_colours():
    brown = np.tile(np.array([90, 60, 40], np.uint8), (16, 16, 1))
    right, exchanged = look([encode(brown, 95)], ALL_MOVE[:0]), look([encode(brown[..., ::-1], 95)], ALL_MOVE[:0])
    assert right.warm == right.coloured > 0
    assert exchanged.warm == 0 and exchanged.coloured > 0


def faulty(number, name):
    """Tiny episodes of which the second one has the fault."""
    made = episodes([8] * number)
    spoiled = made[1]
    if name == "truncated_episode":
        spoiled["steps/is_last"] = np.zeros(8, np.int64)
    if name == "black_camera":
        spoiled["steps/observation/image"] = [black(24)] * 8
    if name == "zero_frames":
        spoiled["steps/observation/image"][3] = black(24)
    if name == "frozen_video":
        spoiled["steps/observation/image"] = [spoiled["steps/observation/image"][0]] * 8
    return made


def dataset(tmp_path, train, val=None):
    return write_rlds(tmp_path, {"train": [train], "val": [val or episodes([7], 5)]})


NAMES = ["truncated_episode", "black_camera", "zero_frames", "frozen_video"]


@pytest.mark.parametrize("name", NAMES)
def test_policy_fail_names_the_episode_and_writes_the_report_first(tmp_path, name):
    with pytest.raises(BadDataError, match=f"{name}: 1 episodes, e.g. tiny-train-0000001"):
        ingest(dataset(tmp_path, faulty(3, name)), tmp_path)
    rows = pq.read_table(tmp_path / "out-work" / "quarantine.parquet").to_pylist()
    assert [(row["key"], row["reason"]) for row in rows] == [("tiny-train-0000001", name)]
    report = json.loads((tmp_path / "out-work" / "quality.json").read_text())
    assert report["quarantined"][name] == {"count": 1, "first": ["tiny-train-0000001"]}


def test_the_remedy_names_every_bad_episode_and_a_spec_that_takes_it_over_is_ingested(tmp_path):
    train = [*faulty(3, "black_camera"), *episodes([8, 9], seed=5)]
    raw = dataset(tmp_path, [*train, train[-1]])
    with pytest.raises(BadDataError) as caught:
        ingest(raw, tmp_path)
    exclude = yaml.safe_load(re.search(r"episodes\.exclude: (\{.*?\})", caught.value.remedy)[1])
    assert exclude == {"tiny-train-0000001": "black_camera", "tiny-train-0000005": "duplicate_content"}
    spec = tiny_spec(episodes=spec_values()["episodes"] | {"exclude": exclude})
    assert ingest(raw, tmp_path, spec, name="again")[1]["kept"]["train"]["episodes"] == 4


def test_what_the_spec_accepts_is_not_among_the_episodes_to_leave_out(tmp_path):
    train = [*faulty(3, "black_camera"), *episodes([8, 9], seed=5)]
    with pytest.raises(BadDataError) as caught:
        ingest(dataset(tmp_path, [*train, train[-1]]), tmp_path, accepting("duplicate_content"))
    assert "episodes.exclude: {tiny-train-0000001: black_camera}" in caught.value.remedy


def test_many_bad_episodes_are_not_listed_in_the_remedy_but_in_the_files(tmp_path):
    train = episodes([8] * 21)
    with pytest.raises(BadDataError) as caught:
        ingest(dataset(tmp_path, [*train, *train]), tmp_path)
    assert "episodes.exclude: {key: why}, the keys of quality.json" in caught.value.remedy
    report = json.loads((tmp_path / "out-work" / "quality.json").read_text())
    assert report["episodes"]["duplicate_content"] == {
        "count": 21, "keys": [f"tiny-train-{place:07d}" for place in range(21, 42)]
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_policy_quarantine_leaves_the_episode_out_and_counts_it(tmp_path, name):
    out, report = ingest(dataset(tmp_path, faulty(3, name)), tmp_path, quality=QUARANTINE)
    assert report["dropped"][name]["episodes"] == 1 and report["kept"]["train"]["episodes"] == 2
    assert json.loads((out / "quality.json").read_text())["quarantined"][name]["count"] == 1


def test_more_faults_than_the_budget_fail(tmp_path):
    train = [*faulty(3, "black_camera"), *faulty(2, "frozen_video")]
    with pytest.raises(BadDataError, match="budget: 2"):
        ingest(dataset(tmp_path, train), tmp_path, quality=QUARANTINE)


def accepting(*detectors):
    errata = [{"id": d, "what": "known", "source": "test", "repair": "none", "detector": d} for d in detectors]
    return tiny_spec(episodes=spec_values()["episodes"] | {"accept": list(detectors)}, errata=errata)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_spec_accepts_is_kept_and_listed(tmp_path, name):
    out, report = ingest(dataset(tmp_path, faulty(3, name)), tmp_path, accepting(name))
    assert report["kept"]["train"]["episodes"] == 3
    assert json.loads((out / "quality.json").read_text())["accepted"][name]["first"] == ["tiny-train-0000001"]


def test_nothing_is_accepted_without_an_erratum_that_says_why():
    with pytest.raises(ConfigError, match="no erratum says why these are accepted: black_camera"):
        tiny_spec(episodes=spec_values()["episodes"] | {"accept": ["black_camera"]})


def test_the_same_episode_in_train_and_val_is_a_leak_and_twice_in_train_a_duplicate(tmp_path):
    train = episodes([8, 9])
    with pytest.raises(BadDataError, match="leaked_split") as caught:
        ingest(dataset(tmp_path / "a", train, [train[1]]), tmp_path / "a")
    assert "tiny-val-0000000: leaked_split" in str(caught.value)
    with pytest.raises(BadDataError, match="duplicate_content"):
        ingest(dataset(tmp_path / "b", [*train, train[0]]), tmp_path / "b")


def test_an_episode_left_out_by_hand_is_counted_and_settles_the_leak(tmp_path):
    train = episodes([8, 9])
    spec = tiny_spec(episodes=spec_values()["episodes"] | {"exclude": {"tiny-val-0000000": "leaked"}})
    _, report = ingest(dataset(tmp_path, train, [train[1], *episodes([6], 7)]), tmp_path, spec)
    assert report["dropped"]["excluded_by_hand"]["episodes"] == 1 and report["kept"]["val"]["episodes"] == 1


def test_a_dataset_whose_actions_point_the_other_way_fails_and_the_spec_can_repair_it(tmp_path):
    train = episodes([30] * 25)
    for each in train:
        action = each["steps/action"].reshape(-1, 7)
        action[:, 1] *= -1.0
    raw = dataset(tmp_path, train)
    with pytest.raises(BadDataError, match=r"action_sign \(y\)"):
        ingest(raw, tmp_path, name="a")
    values = spec_values()
    values["action"]["translation"]["ops"] = [{"scale": {"factor": [1.0, -1.0, 1.0], "offset": 0.0}}]
    out, _ = ingest(raw, tmp_path, tiny_spec(action=values["action"]), name="b")
    verdicts = json.loads((out / "quality.json").read_text())["verdicts"]
    assert {v["outcome"] for v in verdicts if v["detector"] == "action_sign"} == {"ok"}


def test_the_report_does_not_depend_on_the_order_of_work(tmp_path):
    raw = write_rlds(tmp_path, {"train": [episodes([9] * 3), episodes([8] * 3, 1)], "val": [episodes([7], 2)]})
    forwards, backwards = (ingest(raw, tmp_path, name=name, order=order)[0] for name, order in (("a", 1), ("b", -1)))
    assert digests(forwards)["quality.json"] == digests(backwards)["quality.json"]


@pytest.mark.real_data
def test_the_bridge_sample_as_published_raises_what_is_wrong_with_it_and_nothing_else(
    tmp_path, real_data, project_root
):
    """Its val is its train, image_3 is black, is_last is never set; 350 moving steps are too few to judge actions."""
    values = load_yaml(project_root / "data_specs" / "bridge_sample.yaml")
    values["source"]["splits"] = {"train": "train", "val": "val"}
    values["episodes"] = {"filters": [], "edits": ["drop_first", "drop_last"], "min_steps": 2}
    for role, number in (("secondary", 1), ("tertiary", 2), ("wrist", 3)):
        values["cameras"][role] = values["cameras"]["primary"] | {
            "key": f"observation/image_{number}",
            "optional": True,
        }
    with pytest.raises(BadDataError):
        ingest(real_data / "octo_bridge_rlds", tmp_path, DatasetSpec.parse(values, file="bridge"), resolution=64)
    report = json.loads((tmp_path / "out-work" / "quality.json").read_text())
    found = {name: group["count"] for name, group in (report["quarantined"] | report["episodes"]).items()}
    assert found == {"truncated_episode": 50, "leaked_split": 25}
    loud = {(v["detector"], v["scope"]) for v in report["verdicts"] if v["outcome"] in ("fault", "advice")}
    assert loud == {("leaked_split", "episodes"), ("black_camera", "wrist")}
    outcomes = {v["detector"]: v["outcome"] for v in report["verdicts"]}
    assert (outcomes["action_lag"], outcomes["gripper_polarity"]) == ("not_judged", "ok")
