"""What counts as an edit of a value."""

import pytest

from whale.audit.checks.params_check import ABSENT, agrees, differences

HAD = {"steps": 4, "robots": ["a", "b"], "lpips": None, "deep": {"rate": "0.5"}}


@pytest.mark.parametrize("given", [
    HAD, {"steps": 4}, HAD | {"test_steps": None}, HAD | {"deep": {"rate": 0.5, "seed": None}}, HAD | {"steps": "4"},
])  # fmt: skip
def test_what_means_the_same_is_no_edit(given):
    assert agrees(given, HAD)


@pytest.mark.parametrize(("given", "edit"), [
    (HAD | {"steps": 5}, ("steps", 5, 4)),
    (HAD | {"steps": None}, ("steps", None, 4)),
    (HAD | {"lpips": "weights"}, ("lpips", "weights", None)),
    (HAD | {"test_steps": [4, 5]}, ("test_steps", [4, 5], ABSENT)),
    (HAD | {"flag": False}, ("flag", False, ABSENT)),
    (HAD | {"robots": ["a", "c"]}, ("robots[1]", "c", "b")),
    (HAD | {"deep": None}, ("deep", None, {"rate": "0.5"})),
])  # fmt: skip
def test_what_means_something_else_is_named_by_its_place(given, edit):
    assert list(differences(given, HAD)) == [edit]
