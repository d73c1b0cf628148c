import numpy as np
import pytest
from rlds_fixture import episode, spec_values, tiny_spec, write_rlds

from whale.common.errors import BadDataError
from whale.data.ingest.canonical.canonical import canonical_episode, check_keys
from whale.data.ingest.sources.rlds import RldsSource
from whale.data.spec.episode import Episode, Rejected

KEY = "tiny-train-0000000"


def raw_episode(tmp_path, num_steps=6, edit=lambda stored: None):
    stored = episode(np.random.default_rng(0), num_steps)
    edit(stored)
    directory = write_rlds(tmp_path, {"train": [[stored]]})
    return next(iter(RldsSource(directory).read_shard("train", 0)))


def convert(raw, **changes):
    return canonical_episode(raw, tiny_spec(**changes), KEY, ["primary"])


def with_contract(**changes):
    action = spec_values()["action"]
    return action | {"contract": action["contract"] | changes}


def relabelled():
    action = spec_values()["action"]
    for part in ("translation", "rotation"):
        action[part] = action[part] | {"key": "observation/state", "ops": [{"difference": {}}]}
    return action


def test_all_lengths_agree_and_everything_is_finite(tmp_path):
    found = convert(raw_episode(tmp_path))
    assert isinstance(found, Episode)
    arrays = [found.action, found.action_valid, found.state, found.reward, found.discount, found.is_terminal]
    assert {len(array) for array in [*arrays, found.frames["primary"]]} == {6}
    assert all(np.isfinite(array).all() for array in arrays)
    assert found.action.dtype == found.state.dtype == np.float32
    assert ((found.action[:, 6] >= 0) & (found.action[:, 6] <= 1)).all()


def test_the_relabelled_action_leads_from_one_state_to_the_next(tmp_path):
    found = convert(raw_episode(tmp_path), action=relabelled())
    np.testing.assert_allclose(found.action[:-1, :6], np.diff(found.state[:, :6], axis=0), atol=1e-6)
    assert found.action_valid.tolist() == [True] * 5 + [False]


def test_edits_shorten_by_two_and_keep_frames_states_and_actions_aligned(tmp_path):
    raw = raw_episode(tmp_path)
    edits = {"filters": [], "edits": ["drop_first", "drop_last"], "min_steps": 2}
    found = convert(raw, action=relabelled(), episodes=edits)
    assert found.frames["primary"] == raw.steps["observation/image"][1:-1]
    np.testing.assert_array_equal(found.state, raw.steps["observation/state"][1:-1])
    assert found.action_valid.all()
    assert found.is_first.tolist() == [True, False, False, False]
    assert found.is_last.tolist() == [False, False, False, True]


def test_an_undefined_last_action_is_not_valid_and_a_valid_one_is(tmp_path):
    raw = raw_episode(tmp_path)
    assert convert(raw).action_valid.tolist() == [True] * 5 + [False]
    assert convert(raw, action=with_contract(last_step="valid")).action_valid.all()


def test_values_beyond_the_limit_and_nan_are_not_valid(tmp_path):
    def edit(stored):
        action = stored["steps/action"].copy()
        action[0], action[7] = 5.0, np.nan
        stored["steps/action"] = action

    found = convert(raw_episode(tmp_path, edit=edit), action=with_contract(limit=[1.0] * 7, last_step="valid"))
    assert found.action_valid.tolist() == [False, False, True, True, True, True]
    assert found.action[1, 0] == 0.0


def test_a_gripper_far_outside_its_range_is_not_valid(tmp_path):
    def edit(stored):
        action = stored["steps/action"].copy()
        action[6] = -1.0
        stored["steps/action"] = action

    assert convert(raw_episode(tmp_path, edit=edit)).action_valid.tolist() == [False] + [True] * 4 + [False]


@pytest.mark.parametrize(
    "rule, kept",
    [
        ({"key": "language_instruction", "equals": "push the plate"}, True),
        ({"key": "language_instruction", "not_equals": "push the plate"}, False),
        ({"key": "episode_metadata/success", "equals": True}, False),
        ({"key": "episode_metadata/success", "not_equals": True}, True),
    ],
)
def test_filters_look_at_steps_and_metadata(tmp_path, rule, kept):
    rules = {"filters": [rule | {"reason": "test"}], "edits": [], "min_steps": 2}
    found = convert(raw_episode(tmp_path), episodes=rules)
    assert isinstance(found, Episode) if kept else found.reason == "filtered"


def test_filters_come_before_the_length_rule(tmp_path):
    rules = {"filters": [{"key": "episode_metadata/success", "equals": False, "reason": "test"}], "edits": []}
    found = convert(raw_episode(tmp_path, num_steps=1), episodes=rules | {"min_steps": 2})
    assert found.reason == "filtered"


def replaced(name, value):
    return lambda stored: stored.update({name: value})


@pytest.mark.parametrize(
    "edit, reason",
    [
        (replaced("steps/observation/state", np.full(42, np.nan, np.float32)), "nan"),
        (replaced("steps/reward", np.full(6, np.inf, np.float32)), "nan"),
        (replaced("steps/language_instruction", [b"\xff\xfe"] * 6), "unsafe"),
        (replaced("steps/language_instruction", [b"a\x00b"] * 6), "unsafe"),
        (replaced("steps/language_instruction", [b"x" * 10**6] * 6), "unsafe"),
        (replaced("episode_metadata/policy", [b"x" * 10**5]), "unsafe"),
    ],
)
def test_hostile_or_broken_values_have_a_reason(tmp_path, edit, reason):
    found = convert(raw_episode(tmp_path, edit=edit))
    assert isinstance(found, Rejected) and found.reason == reason


@pytest.mark.parametrize("num_steps, reason", [(0, "empty"), (1, "too_short")])
def test_episodes_without_enough_steps_are_rejected(tmp_path, num_steps, reason):
    assert convert(raw_episode(tmp_path, num_steps=num_steps)).reason == reason


def test_a_slice_the_feature_does_not_have_is_a_shape_mismatch(tmp_path):
    action = spec_values()["action"]
    action["gripper"] = action["gripper"] | {"slice": [7, 8]}
    assert convert(raw_episode(tmp_path), action=action).reason == "shape_mismatch"


def test_code_points_become_text_up_to_the_first_zero(tmp_path):
    raw = raw_episode(tmp_path)
    points = np.zeros((6, 512), np.int32)
    points[:, :4] = [ord(letter) for letter in "caf\N{LATIN SMALL LETTER E WITH ACUTE}"]
    steps = dict(raw.steps) | {"language_instruction": points}
    language = spec_values()["language"] | {"encoding": "codepoints_int32"}
    found = convert(type(raw)(**{**vars(raw), "steps": steps}), language=language)
    assert found.language == "caf\N{LATIN SMALL LETTER E WITH ACUTE}"


def test_metadata_is_flat_json_without_its_prefix(tmp_path):
    assert convert(raw_episode(tmp_path)).metadata == {"success": False, "policy": "expert"}


def test_an_instruction_that_varies_is_marked(tmp_path):
    edit = replaced("steps/language_instruction", [b"push"] * 3 + [b"pull"] * 3)
    found = convert(raw_episode(tmp_path, edit=edit))
    assert (found.language, found.metadata["language_varies"]) == ("push", True)


def test_conversion_does_not_edit_its_input(tmp_path):
    raw = raw_episode(tmp_path)
    before = {name: np.array(value) for name, value in raw.steps.items()}
    convert(raw, action=relabelled())
    for name, value in raw.steps.items():
        np.testing.assert_array_equal(np.array(value), before[name])


def test_a_key_that_no_feature_has_fails_once_with_the_nearest_name():
    spec = tiny_spec(language=spec_values()["language"] | {"key": "language_instructions"})
    features = ["action", "is_first", "language_instruction", "observation/state", "observation/image"]
    with pytest.raises(BadDataError, match="did you mean language_instruction"):
        check_keys(spec, features, ["primary"], "features.json")
