import numpy as np
import pytest
import torch

from whale.evaluation.measuring.motion import position_error
from whale.evaluation.video import pose_probe
from whale.evaluation.video.pose_probe import fit_pose_probe


def squares(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A square somewhere on noise; where it is, in metres, and its brightness as the third coordinate."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(90, 110, (count, 16, 16, 3)).astype(np.uint8)
    position = rng.uniform(-1, 1, (count, 3))
    for frame, (x, y, z) in zip(frames, position, strict=True):
        row, column = round(6.0 + 5 * y), round(6.0 + 5 * x)
        frame[row : row + 4, column : column + 4] = 170 + 60 * z
    return frames, 0.2 * position + 0.5


@pytest.fixture(scope="module", autouse=True)
def shorter():
    patch = pytest.MonkeyPatch()
    patch.setattr(pose_probe, "STEPS", 300)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def probe():
    return fit_pose_probe(*squares(800, 0), seed=3)


def test_it_reads_new_frames_far_better_than_the_mean_position(probe):
    frames, position = squares(200, 1)
    error = position_error(probe(frames), position).mean()
    assert error < 0.2 * position_error(position.mean(axis=0), position).mean()


def test_the_same_seed_gives_the_same_probe_and_touches_no_global_state(probe):
    frames = squares(64, 2)[0]
    torch.manual_seed(7)
    expected = torch.rand(3)
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    again = fit_pose_probe(*squares(800, 0), seed=3)
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads
    np.testing.assert_array_equal(again(frames), probe(frames))


def test_leading_axes_are_kept(probe):
    frames = squares(6, 4)[0]
    np.testing.assert_allclose(probe(frames.reshape(2, 3, 16, 16, 3)).reshape(6, 3), probe(frames), atol=1e-5)
