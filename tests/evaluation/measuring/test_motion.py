import numpy as np

from whale.evaluation.measuring.motion import moving_patches, position_error


def test_only_patches_with_a_moving_pixel_move():
    frames = np.full((1, 3, 8, 8, 3), 100, np.uint8)
    frames[0, 1:, 0, 0, 1] = 109  # one pixel of one channel by more than 8
    frames[0, 2, 7, 7, 0] = 108  # exactly 8 is still
    assert moving_patches(frames, 2)[0].tolist() == [[True, False, False, False], [False, False, False, False]]


def test_a_position_error_is_a_distance_and_does_not_lose_digits_in_float32():
    assert position_error(np.array([[3.0, 4.0, 0.0]]), np.zeros((1, 3))).tolist() == [5.0]
    far = np.array([1e4, 0.0, 0.0], np.float32)
    assert position_error(far, far.astype(np.float64) + 1e-6) > 0
