"""Scaled actions: poses scaled, gripper and context kept, on a world where the outcome is known in closed form."""

import numpy as np

from whale.evaluation.video.controllable import controlled, scaled_actions


def summing(frames: np.ndarray, actions: np.ndarray, horizon: int) -> np.ndarray:
    """A world whose frames are the running sum of what was done since its first frame."""
    return np.cumsum(actions, axis=1)[:, -horizon:]


def test_poses_are_scaled_and_the_gripper_is_not():
    raw = np.arange(14, dtype=np.float32).reshape(1, 2, 7)
    scaled = scaled_actions(raw, 0.5)
    np.testing.assert_array_equal(scaled[..., :6], raw[..., :6] / 2)
    np.testing.assert_array_equal(scaled[..., 6], raw[..., 6])
    assert scaled.dtype == np.float32


def test_only_imagined_steps_are_scaled_and_displacement_follows_the_factor():
    actions = np.ones((2, 5, 7), np.float32)
    frames = np.zeros((2, 3, 4, 4, 3), np.uint8)  # three given frames: two recorded actions, three imagined steps
    found = controlled(summing, frames, actions, 3)
    for factor, imagined in found.items():
        np.testing.assert_allclose(imagined[:, -1, :6], 2 + 3 * factor, rtol=1e-6)
        np.testing.assert_allclose(imagined[:, -1, 6], 5, rtol=1e-6)


def test_factor_one_is_the_plain_rollout():
    actions = np.random.default_rng(0).normal(size=(1, 4, 7)).astype(np.float32)
    frames = np.zeros((1, 1, 4, 4, 3), np.uint8)
    np.testing.assert_array_equal(controlled(summing, frames, actions, 4)[1.0], summing(frames, actions, 4))
