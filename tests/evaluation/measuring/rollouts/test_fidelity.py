import numpy as np
import pytest

from whale.evaluation.measuring.rollouts.fidelity import (
    changing_pixels,
    copy_last,
    mean_image,
    psnr,
    psnr_of_changing_pixels,
    ssim,
)


def _image(seed: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def _slow_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Loop over every window and channel in float64, straight from the definition."""
    offset = np.arange(11) - 5
    weight = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    scores = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            for channel in range(3):
                a = x[row : row + 11, column : column + 11, channel].astype(np.float64)
                b = y[row : row + 11, column : column + 11, channel].astype(np.float64)
                mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
                var_a, var_b = ((weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum())
                cov = (weight * (a - mean_a) * (b - mean_b)).sum()
                c1, c2 = 2.55**2, 7.65**2
                top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
                scores.append(top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return float(np.mean(scores))


@pytest.mark.parametrize("offset, expected", [(1, 48.1308), (10, 28.1308), (255, 0.0), (0, 100.0)])
def test_psnr_of_a_constant_offset_is_20_log10_of_255_over_it(offset, expected):
    black = np.zeros((2, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(psnr(black, black + np.uint8(offset)), expected, atol=1e-3)


def test_ssim_equals_a_slow_float64_reference():
    x = _image(0)
    y = np.clip(x.astype(int) + np.random.default_rng(1).integers(-40, 40, x.shape), 0, 255).astype(np.uint8)
    np.testing.assert_allclose(ssim(x[None], y[None])[0], _slow_ssim(x, y), rtol=1e-9)


def test_ssim_of_a_frame_with_itself_is_one():
    np.testing.assert_allclose(ssim(_image(3), _image(3)), 1.0)


def test_changing_pixels_are_those_that_leave_the_mean_image_in_any_channel():
    mean = np.full((4, 4, 3), 100, np.uint8)
    frame = mean.copy()
    frame[0, 0, 2], frame[1, 1, 0] = 126, 125
    assert changing_pixels(frame, mean).nonzero() == (np.array([0]), np.array([0]))


def test_psnr_of_changing_pixels_ignores_every_other_pixel_and_is_nan_without_any():
    truth = np.zeros((2, 4, 4, 3), np.uint8)
    image = np.full((2, 4, 4, 3), 200, np.uint8)
    changing = np.zeros((2, 4, 4), bool)
    changing[0, 1, 1], image[0, 1, 1] = True, 10
    score = psnr_of_changing_pixels(truth, image, changing)
    np.testing.assert_allclose(score[0], 28.1308, atol=1e-3)
    assert np.isnan(score[1])


def test_no_constant_image_beats_the_mean_image():
    frames = np.stack([_image(seed) for seed in range(8)])
    best = np.square(frames.astype(float) - mean_image(frames)).mean()
    for shift in (-3, 3):
        assert best < np.square(frames.astype(float) - mean_image(frames).astype(float) - shift).mean()


def test_copy_last_repeats_the_last_context_frame():
    context = np.stack([_image(0), _image(1)])[None]
    assert (copy_last(context, 3) == context[:, 1:]).all()
