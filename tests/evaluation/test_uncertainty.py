"""The property tests of model.md 7.2 on worlds small enough to compute by hand: a 'frame' is a position [B, c, 2]."""

import numpy as np
import pytest

from whale.evaluation.uncertainty import (
    Prediction,
    branch,
    retrace,
    retracing_uncertainty,
    usable_depths,
    window_bounds,
)


def _distance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.square(left - right).reshape(len(left), -1).mean(axis=1)


def _world(step, entropy=1.0):
    """A predictor that applies `step(position, action)` from the last given frame on."""

    def predict(frames, actions, horizon):
        position, imagined = frames[:, -1], []
        for index in range(frames.shape[1] - 1, frames.shape[1] - 1 + horizon):
            position = step(position, actions[:, index])
            imagined.append(position)
        return Prediction(np.stack(imagined, axis=1), np.full((len(frames), horizon), entropy))

    return predict


linear = _world(lambda position, action: position + action[:, :2])
walled = _world(lambda position, action: np.minimum(position + action[:, :2], 10.0))


def _history(seed=0, length=5, step=lambda position, action: position + action[:, :2]):
    """Integer actions divisible by 2, 3 and 4, so that every mean is exact."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(-3, 4, (6, length, 3)).astype(np.float64) * 12
    frames = [np.zeros((6, 2))]
    for index in range(length - 1):
        frames.append(step(frames[-1], actions[:, index]))
    return np.stack(frames, axis=1), actions


def test_a_linear_world_has_exactly_zero_disagreement_at_every_depth():
    frames, actions = _history()
    for depth in (1, 2, 3):
        assert (retracing_uncertainty(linear, _distance, frames, actions, [depth]).disagreement == 0).all()


def test_zero_disagreement_is_zero_uncertainty_whatever_the_entropy():
    frames, actions = _history()
    predict = _world(lambda position, action: position + action[:, :2], entropy=6.2)
    assert (retracing_uncertainty(predict, _distance, frames, actions, [1, 2, 3]).retracing == 0).all()


def test_a_wall_makes_the_path_matter():
    frames, actions = np.zeros((1, 2, 2)), np.array([[[24.0, 0, 1], [-12.0, 0, 1]]])
    frames[0, 1, 0] = 10.0  # the first action ran into the wall
    assert retracing_uncertainty(walled, _distance, frames, actions, [1]).disagreement[0] > 0


def test_without_a_usable_depth_the_uncertainty_is_nan():
    frames, actions = _history(length=1)
    result = retracing_uncertainty(linear, _distance, frames, actions, [1, 2, 3])
    assert np.isnan(result.retracing).all() and np.isfinite(result.entropy).all()
    assert usable_depths([0, 1, 2, 3], num_frames=3) == [1, 2]


def test_the_branch_does_not_see_the_order_of_the_actions_it_folds():
    frames, actions = _history()
    shuffled = actions.copy()
    shuffled[:, 1:, :2] = actions[:, [4, 2, 1, 3], :2]  # poses of a_s..a_t
    shuffled[:, 1:4, 2] = actions[:, [3, 1, 2], 2]  # grippers of a_s..a_{t-1}
    np.testing.assert_array_equal(branch(walled, frames, actions, 3), branch(walled, frames, shuffled, 3))


def test_n_equal_steps_add_up_to_the_same_pose():
    actions = np.random.default_rng(0).normal(size=(3, 4, 7))
    np.testing.assert_allclose(retrace(actions)[..., :6].sum(axis=-2), actions[..., :6].sum(axis=-2))


def test_every_retraced_gripper_is_the_last_command():
    actions = np.random.default_rng(0).normal(size=(3, 4, 7))
    assert (retrace(actions)[..., 6] == actions[:, -1:, 6]).all()


def test_the_mean_action_commutes_with_an_affine_normalisation():
    actions = np.random.default_rng(0).normal(size=(3, 4, 7))
    np.testing.assert_allclose(retrace(2 * actions - 1), 2 * retrace(actions) - 1)


def test_constant_actions_retrace_to_themselves():
    actions = np.ones((2, 4, 7)) * np.arange(7)
    np.testing.assert_array_equal(retrace(actions), actions)


@pytest.mark.parametrize("context, horizon, lengths", [(4, 8, [4, 5, 6, 7, 8, 4, 5, 6]), (1, 8, list(range(1, 9)))])
def test_a_full_window_restarts_from_its_second_half(context, horizon, lengths):
    bounds = window_bounds(context, horizon, window=8)
    assert [stop - start for start, stop in bounds] == lengths
    assert [stop for _, stop in bounds] == list(range(context, context + horizon))
