import hashlib

import numpy as np
import pytest
import safetensors.torch
import torch

from whale.common.errors import BadDataError, MismatchError, MissingInputError
from whale.evaluation.measuring.efflite0 import PercepEffLite0
from whale.evaluation.measuring.feature_networks import I3D, LPIPS, NetworkFile, load_network
from whale.evaluation.measuring.rollouts.fidelity import psnr, ssim
from whale.evaluation.video.perceptual import (
    frechet_video_distance,
    load_feature_networks,
    lpips_per_frame,
    percep_efflite0_per_frame,
    perceptual_metrics,
)


def _images(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    torch.manual_seed(0)
    return LPIPS().eval()


def test_the_networks_have_as_many_parameters_as_the_published_ones():
    """VGG16 without its classifier has 14,714,688 and the heads 1,472; I3D for 400 classes has 12,697,264."""
    with torch.device("meta"):
        assert sum(p.numel() for p in LPIPS().parameters()) == 14_714_688 + 1_472
        assert sum(p.numel() for p in I3D().parameters()) == 12_697_264


def test_lpips_of_an_image_with_itself_is_zero_and_of_two_images_is_symmetric(lpips):
    a, b = _images(0, 2, 32, 32), _images(1, 2, 32, 32)
    assert (lpips_per_frame(lpips, a, a) == 0).all()
    left, right = lpips_per_frame(lpips, a, b), lpips_per_frame(lpips, b, a)
    assert (left != 0).all()
    np.testing.assert_allclose(left, right, rtol=1e-5)


def test_lpips_of_constant_heads_is_the_channel_sum_of_squared_differences_of_unit_features(lpips):
    """With heads of 1, a level adds |u - v|^2 = 2 - 2 cos of two unit vectors, averaged over places."""
    network = LPIPS().eval()
    network.load_state_dict(lpips.state_dict())
    for number in range(5):
        torch.nn.init.ones_(getattr(network, f"lin{number}")["model"]["1"].weight)
    left, right = _images(0, 1, 32, 32), _images(1, 1, 32, 32)
    expected = 0.0
    for a, b in zip(*(vgg_levels(network.state_dict(), image) for image in (left, right)), strict=True):
        cosine = torch.cosine_similarity(a, b, dim=1)
        expected += float(((a.norm(dim=1) > 0).float() + (b.norm(dim=1) > 0).float() - 2 * cosine).mean())
    assert lpips_per_frame(network, left, right)[0] == pytest.approx(expected, rel=1e-4)


def vgg_levels(weights: dict[str, torch.Tensor], image: np.ndarray) -> list[torch.Tensor]:
    """What LPIPS reads of VGG16: the last features before each pooling, of an image scaled as published."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = ((torch.from_numpy(image) / 127.5 - 1 - shift) / scale).permute(0, 3, 1, 2)
    levels = []
    for level in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        for place in level:
            layer = (weights[f"features.{place}.weight"], weights[f"features.{place}.bias"])
            x = torch.relu(torch.nn.functional.conv2d(x, *layer, padding=1))
        levels.append(x)
        x = torch.nn.functional.max_pool2d(x, 2)
    return levels


class _Mean(torch.nn.Module):
    """Two features of a video: the mean of its first and of its last frame."""

    num_features = 2

    def forward(self, videos):
        return videos[:, [0, -1]].double().mean((2, 3, 4))


def _videos(means: np.ndarray) -> np.ndarray:
    return np.broadcast_to(means[:, :, None, None, None], (*means.shape, 4, 4, 3)).astype(np.uint8)


def test_fvd_of_equal_sets_is_zero_and_of_shifted_ones_the_squared_shift():
    """Two Gaussians of one covariance: the Frechet distance is the squared distance of their means, 3^2 + 4^2."""
    means = np.random.default_rng(0).integers(20, 200, (50, 2))
    assert frechet_video_distance(_Mean(), _videos(means), _videos(means)) == pytest.approx(0, abs=1e-3)
    shifted = frechet_video_distance(_Mean(), _videos(means), _videos(means + np.array([3, 4])))
    assert shifted == pytest.approx(25, rel=1e-3)
    assert np.isnan(frechet_video_distance(_Mean(), _videos(means[:1]), _videos(means[:1])))


def test_without_weights_a_metric_is_null_and_says_so():
    frames = _images(0, 2, 4, 16, 16)
    metrics = perceptual_metrics(load_feature_networks(None, None, None), frames, frames)
    assert metrics["lpips"] is None and metrics["fvd"] is None
    assert "unavailable" in metrics["lpips.status"] and "unavailable" in metrics["fvd.status"]


def test_percep_efflite0_of_frames_is_that_of_each_pair_whatever_the_batch():
    torch.manual_seed(0)
    network = PercepEffLite0().eval()
    truth, image = _images(0, 2, 3, 16, 16), _images(1, 2, 3, 16, 16)
    found = percep_efflite0_per_frame(network, truth, {"mine": image, "truth": truth}, batch_size=4)
    assert found["mine"].shape == (2, 3) and (found["truth"] == 0).all()
    left, right = (torch.from_numpy(x) for x in (truth, image))
    expected = [[float(network(left[b, t][None], right[b, t][None])) for t in range(3)] for b in range(2)]
    np.testing.assert_allclose(found["mine"], expected, rtol=1e-4)


def test_weights_are_what_their_sha256_says_or_refused(tmp_path, lpips):
    path = tmp_path / "lpips.safetensors"
    path.write_bytes(safetensors.torch.save(lpips.state_dict()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = load_network(NetworkFile(path=str(path), sha256=digest), LPIPS())
    assert all(torch.equal(value, lpips.state_dict()[name]) for name, value in loaded.state_dict().items())
    with pytest.raises(MismatchError, match="pinned"):
        load_network(NetworkFile(path=str(path), sha256="0" * 64), LPIPS())
    with pytest.raises(BadDataError, match="do not fit"):
        load_network(NetworkFile(path=str(path), sha256=digest), _Mean())
    with pytest.raises(MissingInputError, match=r"feature-weights\.md"):
        load_network(NetworkFile(path=str(tmp_path / "none"), sha256=digest), LPIPS())


def test_psnr_and_ssim_are_those_of_torchmetrics():
    """Its SSIM averages over reflected borders too; ours over the places where the window fits (Wang et al. 2004)."""
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    truth = _images(0, 3, 24, 24)
    image = np.clip(truth.astype(int) + np.random.default_rng(1).integers(-30, 31, truth.shape), 0, 255).astype(
        np.uint8
    )
    a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).double() for x in (truth, image))
    expected = [float(peak_signal_noise_ratio(x[None], y[None], data_range=255.0)) for x, y in zip(b, a, strict=True)]
    np.testing.assert_allclose(psnr(truth, image), expected, rtol=1e-6)
    _, places = structural_similarity_index_measure(b, a, data_range=255.0, reduction="none", return_full_image=True)
    expected = places[..., 5:-5, 5:-5].mean((1, 2, 3))
    np.testing.assert_allclose(ssim(truth, image), expected, rtol=1e-6)
