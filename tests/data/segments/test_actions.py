import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whale.common.errors import BadDataError
from whale.data.segments.actions import ActionNormalizer

Q01, Q99 = np.array([-1, -2, 0, -0.5, 1, 5, 0.0]), np.array([1, 2, 4, 0.5, 3, 5, 1.0])
MINIMUM, MAXIMUM = Q01 - 1.0, Q99 + 1.0
MASK = np.array([True, True, False, True, True, True, True])


def normalizer(**changes):
    values = {"q01": Q01, "q99": Q99, "mask": MASK, "minimum": MINIMUM, "maximum": MAXIMUM} | changes
    return ActionNormalizer(**values)


def test_quantiles_go_to_minus_one_and_one_and_beyond_is_clipped():
    np.testing.assert_allclose(normalizer().normalize(Q01)[[0, 1, 3, 4]], -1.0)
    np.testing.assert_allclose(normalizer().normalize(Q99)[[0, 1, 3, 4]], 1.0)
    np.testing.assert_allclose(normalizer().normalize(MAXIMUM)[[0, 1, 3, 4]], 1.0)


@given(st.floats(0, 1, width=32))
def test_the_gripper_is_left_alone(gripper):
    action = np.zeros(7, np.float32)
    action[6] = gripper
    assert normalizer().normalize(action)[6] == np.float32(gripper)


def test_a_gripper_that_never_moved_still_says_open_or_closed():
    constant = normalizer(minimum=np.append(MINIMUM[:6], 1.0), maximum=np.append(MAXIMUM[:6], 1.0))
    assert constant.normalize(np.ones(7))[6] == 1.0


def test_masked_dimensions_give_zero_and_come_back_as_their_constant():
    assert normalizer().normalize(np.full(7, 3.0))[2] == 0.0
    assert normalizer().denormalize(np.zeros(7))[2] == MINIMUM[2]


def test_dead_dimensions_give_zero_without_a_mask():
    dead = normalizer(maximum=np.where(np.arange(7) == 0, MINIMUM, MAXIMUM))
    assert dead.normalize(np.full(7, 0.3))[0] == 0.0


def test_degenerate_quantiles_fall_back_to_the_extremes():
    # Dimension 5: q01 == q99 == 5, values between 4 and 6. The plain formula would divide by about 0.
    np.testing.assert_allclose(
        normalizer().normalize(np.array([[0, 0, 0, 0, 0, v, 0] for v in (4, 5, 6)]))[:, 5], [-1, 0, 1]
    )


def test_denormalize_is_the_inverse_inside_the_range():
    rng = np.random.default_rng(0)
    action = rng.uniform(Q01, np.maximum(Q99, Q01 + 1e-9), (50, 7))
    action[:, 2] = MINIMUM[2]
    np.testing.assert_allclose(normalizer().denormalize(normalizer().normalize(action)), action, atol=1e-6)


def test_any_leading_shape_gives_finite_float32_and_leaves_its_input_alone():
    action = np.random.default_rng(0).normal(size=(2, 3, 7))
    before = action.copy()
    out = normalizer().normalize(action)
    assert out.dtype == np.float32 and out.shape == action.shape and np.isfinite(out).all()
    np.testing.assert_array_equal(action, before)


def test_statistics_of_another_size_are_refused():
    with pytest.raises(BadDataError, match="7 numbers"):
        normalizer(q01=np.zeros(6))
