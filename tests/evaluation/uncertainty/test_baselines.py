import numpy as np

from whale.evaluation.uncertainty.baselines import action_length, moved, nearest, variance
from whale.evaluation.uncertainty.decodings import decoding_metrics, motion

RNG = np.random.default_rng(0)


def test_moved_is_the_mean_squared_way_of_the_features_since_the_last_given_frame():
    features = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    np.testing.assert_allclose(moved(features, np.array([[1.0, 0.0]])), [[2.0, 10.0]])


def test_an_action_is_as_long_as_its_pose_and_the_gripper_adds_nothing():
    np.testing.assert_allclose(action_length(np.array([[[3.0, 4.0, 9.0]]])), [[5.0]])


def test_the_nearest_neighbour_is_the_one_that_a_search_finds():
    features, references = RNG.normal(size=(3, 4, 5)), RNG.normal(size=(7, 5))
    slow = np.square(features[:, :, None] - references).mean(axis=-1).min(axis=-1)
    np.testing.assert_allclose(nearest(features, references), slow)
    np.testing.assert_allclose(nearest(references[None], references), np.zeros((1, 7)), atol=1e-12)


def test_the_variance_of_rollouts_is_that_of_their_pixels_in_zero_to_one():
    rollouts = [RNG.integers(0, 256, (2, 3, 4, 4, 3), dtype=np.uint8) for _ in range(5)]
    expected = (np.stack(rollouts) / 255).var(axis=0).mean(axis=(-3, -2, -1))
    np.testing.assert_allclose(variance(rollouts), expected, rtol=1e-5)
    assert (variance(rollouts[:1] * 3) == 0).all()


def test_a_patch_moves_where_a_pixel_of_it_does():
    frames = np.zeros((1, 3, 8, 8, 3), np.uint8)
    frames[0, 1, 0, 0, 0] = 9  # one of four patches, there and back
    assert motion(frames, 4) == 0.25
    frames[0, 1, 0, 0, 0] = 8
    assert motion(frames, 4) == 0
    assert np.isnan(motion(frames[:, :1], 4))


def test_a_decoding_that_repeats_the_truth_beats_the_still_image_and_moves_as_the_truth_does():
    frames = RNG.integers(0, 256, (4, 6, 16, 16, 3), dtype=np.uint8)
    given, truth = frames[:, 0], frames[:, 1:]
    still = np.repeat(frames[:, :1], 5, axis=1)
    episode, rng = np.array([0, 0, 1, 1]), np.random.default_rng(0)
    found = decoding_metrics(given, truth, {"sample": truth, "argmax": still}, 8, episode, rng, 100)
    assert found["sample.psnr"] == 100 and found["argmax.psnr"] == found["still.psnr"]
    assert found["sample.ssim"] == 1 and found["sample.motion"] == found["truth.motion"] == 1
    assert found["argmax.motion"] == 0 and found["argmax.psnr_moving"] == found["still.psnr_moving"]
    assert found["sample_minus_argmax.psnr"] == 100 - found["argmax.psnr"]
