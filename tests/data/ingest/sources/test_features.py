import sys
import zlib

import numpy as np
import pytest
from rlds_fixture import feature_tree

from whale.common.errors import BadDataError
from whale.data.ingest.sources.features import PACKAGE, Feature, parse_features
from whale.data.spec.episode import EpisodeError


def test_names_are_joined_and_steps_lose_their_prefix():
    features = parse_features(feature_tree())
    assert features["observation/state"].shape == (7,)
    assert features["observation/image"].kind == "bytes"
    assert not features["episode_metadata/success"].in_steps


def test_a_name_may_hold_slashes_itself():
    tree = feature_tree()
    step = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    step["observation"]["featuresDict"]["features"]["present/xyz"] = step["action"]
    assert parse_features(tree)["observation/present/xyz"].stored_name == "steps/observation/present/xyz"


@pytest.mark.parametrize("name", ["antigravity", "os.path", PACKAGE + "tensor_feature.Tensor2", "this_module.X"])
def test_a_class_outside_the_list_is_told_and_neither_read_nor_imported(name):
    tree = feature_tree()
    tree["featuresDict"]["features"]["evil"] = {"pythonClassName": name}
    found = parse_features(tree)["evil"]
    assert found.kind == "unsupported" and name in found.why
    with pytest.raises(EpisodeError):
        found.decode([b"x"], 1)
    assert "antigravity" not in sys.modules


def test_malformed_trees_are_bad_data():
    for tree in ([], {"pythonClassName": PACKAGE + "features_dict.FeaturesDict"}, {"type": "x"}):
        with pytest.raises(BadDataError):
            parse_features(tree)


def test_zlib_tensors_are_inflated_up_to_their_declared_size_only():
    feature = Feature("x", "tensor", (2,), "float32", "zlib", True)
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    decoded = feature.decode([zlib.compress(row.tobytes()) for row in values], 3)
    np.testing.assert_array_equal(decoded, values)
    with pytest.raises(EpisodeError) as caught:
        feature.decode([zlib.compress(bytes(10**7))], 1)
    assert caught.value.reason == "shape_mismatch"


def test_one_unknown_dimension_follows_from_the_number_of_values():
    feature = Feature("x", "tensor", (None, 2), "int32", "none", True)
    assert feature.decode(np.arange(12), 3).shape == (3, 2, 2)


@pytest.mark.parametrize(
    "stored, reason",
    [
        (np.zeros(6, np.float32), "length_mismatch"),
        (np.zeros(6, np.int64), "dtype_mismatch"),
        ([b"x", b"y"], "dtype_mismatch"),
        (None, "missing_key"),
    ],
)
def test_what_disagrees_with_the_declaration_has_a_reason(stored, reason):
    with pytest.raises(EpisodeError) as caught:
        Feature("x", "tensor", (7,), "float32", "none", True).decode(stored, 2)
    assert caught.value.reason == reason
