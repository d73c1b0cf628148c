"""`check_spec` finds what contradicts itself, and leaves alone what does not."""

from pathlib import Path

import pytest

from whale.data.spec.spec import DatasetSpec, load_spec
from whale.data.workbench.spec_check import check_spec

SPECS = Path(__file__).parents[3] / "data_specs"
NAMES = sorted(path.stem for path in SPECS.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_the_committed_specs_hold_together(name, seed):
    assert check_spec(load_spec(name, SPECS), seed) == []


def places(name: str, **changes) -> list[str]:
    """Where the spec `name` is wrong after `part__key=value` changes below `action`."""
    values = load_spec(name, SPECS).model_dump(mode="json")
    for place, value in changes.items():
        part, key = place.split("__")
        values["action"][part][key] = value
    for part in ("translation", "rotation", "gripper"):
        values["action"][part]["ops"] = [
            op if isinstance(op, str) or "name" not in op else {op["name"]: op["arguments"]}
            for op in values["action"][part]["ops"]
        ]
    return [problem.place for problem in check_spec(DatasetSpec.parse(values, file="changed.yaml"))]


def test_a_unit_with_a_conversion_that_is_none_is_found():
    """Without any the spec cannot be read (test_spec.py)."""
    kitchen = "ucsd_kitchen_dataset_converted_externally_to_rlds"
    weak = [{"scale": {"factor": 0.9}}, {"difference": {"wrap": False}}]
    assert places(kitchen, translation__ops=weak) == ["action.translation.ops"]
    assert places(kitchen, rotation__ops=weak) == ["action.rotation.ops"]


def test_absolute_poses_that_are_called_deltas_are_found():
    spec = "toto"
    assert places(spec, translation__unit="mm", translation__ops=[{"scale": {"factor": 0.1}}]) == [
        "action.translation.ops"
    ]


def test_a_gripper_that_never_opens_or_leaves_its_range_is_found():
    assert "action.gripper.ops" in places("roboturk", gripper__ops=[{"scale": {"factor": 0.3}}])
    assert places("roboturk", gripper__ops=[{"scale": {"factor": 3.0, "offset": 2.0}}])


def test_a_constant_dimension_that_is_called_live_is_found():
    assert places("jaco_play", contract__live="xyzrpwg") == ["action.contract.live"]


def test_a_width_that_does_not_fit_is_found():
    assert places("roboturk", translation__slice=[0, 2]) == ["action"]
