import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from whale.data.spec import operations as ops
from whale.data.spec import rotations

angles = arrays(np.float64, (5, 3), elements=st.floats(-3.1, 3.1))


def column(*values):
    return np.array(values, np.float64)[:, None]


def test_pick_takes_columns_and_refuses_what_is_not_there():
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(ops.pick(x, 1, 3), x[:, 1:3])
    with pytest.raises(ValueError, match="slice"):
        ops.pick(x, 3, 5)


def test_fill_appends_a_constant():
    np.testing.assert_array_equal(ops.fill(column(1, 2), 7.0, 3), [[1, 7, 7], [2, 7, 7]])


def test_scale_turns_millimetres_and_degrees_into_metres_and_radians():
    np.testing.assert_allclose(ops.scale(np.array([[1000.0, 180.0]]), [0.001, np.pi / 180]), [[1.0, np.pi]])


def test_clip_and_invert():
    np.testing.assert_array_equal(ops.clip(column(-1, 0.5, 2), 0.0, 1.0), column(0, 0.5, 1))
    np.testing.assert_array_equal(ops.invert(column(0, 0.25, 1)), column(1, 0.75, 0))


def test_binarize_takes_the_next_decided_value_and_keeps_an_undecided_tail():
    np.testing.assert_array_equal(ops.binarize(column(0.5, 0.99, 0.5, 0.01, 0.3, 0.4)), column(1, 1, 0, 0, 0.4, 0.4))


@pytest.mark.parametrize(
    "commands, opening",
    [
        ((0, 1, 0, -1, 0), (1, 0, 0, 1, 1)),  # closes first: it was open
        ((0, -1, 0), (0, 1, 1)),  # opens first: it was closed
        ((0, 0.05, -0.05), (1, 1, 1)),  # no command: open
    ],
)
def test_relative_to_absolute_holds_between_commands(commands, opening):
    np.testing.assert_array_equal(ops.relative_to_absolute(column(*commands)), column(*opening))


@given(angles)
def test_to_euler_of_a_quaternion_describes_the_same_rotation_whatever_its_sign(rpy):
    R = rotations.from_euler(rpy)
    w = np.sqrt(np.maximum(1 + np.trace(R, axis1=1, axis2=2), 0)) / 2
    safe = w > 0.1
    x, y, z = ((R[:, i, j] - R[:, j, i]) / (4 * np.where(safe, w, 1)) for i, j in ((2, 1), (0, 2), (1, 0)))
    quat = np.stack([x, y, z, w], axis=1)[safe]
    for sign in (1, -1):
        found = ops.to_euler(sign * quat, "quat_xyzw")
        np.testing.assert_allclose(rotations.from_euler(found), R[safe], atol=1e-9)


def test_to_euler_of_axis_angle_and_of_another_order():
    np.testing.assert_allclose(
        ops.to_euler(np.array([[0, 0, np.pi / 2]]), "axis_angle"), [[0, 0, np.pi / 2]], atol=1e-12
    )
    # Extrinsic z then x by 90 degrees: the x axis goes to y, then to z.
    matrix = rotations.from_euler(np.array([[np.pi / 2, np.pi / 2, 0.0]]), "zxy")
    np.testing.assert_allclose(matrix[0] @ [1, 0, 0], [0, 0, 1], atol=1e-12)


def test_a_quaternion_of_another_norm_is_refused():
    with pytest.raises(ValueError, match="norm"):
        ops.to_euler(np.ones((2, 4)), "quat_xyzw")


def test_difference_wraps_angles_and_leaves_the_last_step_undefined():
    step = ops.difference(column(3.1, -3.1, 0.0), wrap=True)
    np.testing.assert_allclose(step[:2], column(2 * np.pi - 6.2, 3.1))
    assert np.isnan(step[2]).all()


@given(angles)
def test_difference_of_rotations_leads_from_one_orientation_to_the_next(rpy):
    step = ops.difference(rpy, kind="rotation")
    reached = rotations.from_euler(step[:-1]) @ rotations.from_euler(rpy[:-1])
    np.testing.assert_allclose(reached, rotations.from_euler(rpy[1:]), atol=1e-9)


@given(arrays(np.float64, (4, 2), elements=st.floats(-1e3, 1e3)))
def test_wrapped_angles_lie_in_the_half_open_interval_and_are_equal_modulo_a_turn(angle):
    wrapped = rotations.wrap_angle(angle)
    assert (wrapped > -np.pi).all() and (wrapped <= np.pi).all()
    np.testing.assert_allclose(np.cos(wrapped), np.cos(angle), atol=1e-9)


@pytest.mark.parametrize("name", ops.OPERATIONS)
def test_no_operation_edits_its_input(name):
    arguments = {
        "pick": {"start": 0, "stop": 2}, "fill": {"value": 1.0, "width": 6}, "clip": {"low": 0.0, "high": 1.0},
        "to_euler": {"form": "axis_angle"},
    }  # fmt: skip
    x = np.random.default_rng(0).uniform(-1, 1, (6, 3))
    before = x.copy()
    ops.apply_operation(x, name, ops.check_operation(name, arguments.get(name, {})))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ["binarize", "relative_to_absolute", "difference", "clip"])
def test_an_empty_episode_stays_empty(name):
    arguments = {"low": 0.0, "high": 1.0} if name == "clip" else {}
    if name == "relative_to_absolute":
        pytest.skip("canonical_episode rejects empty episodes before any operation")
    assert ops.apply_operation(np.zeros((0, 1)), name, arguments).shape == (0, 1)


def test_an_unknown_operation_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'binarize'"):
        ops.check_operation("binarise", {})
