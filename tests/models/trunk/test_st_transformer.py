import pytest
import torch
from pydantic import ValidationError

from whale.models.trunk.layers import patchify, space_time_positions, unpatchify
from whale.models.trunk.st_transformer import STTransformer, STTransformerConfig


def small_trunk() -> STTransformer:
    torch.manual_seed(0)
    return STTransformer(STTransformerConfig(num_layers=4, num_heads=2, d_model=16)).double()


@pytest.mark.parametrize("changed", [1, 3])
def test_a_frame_does_not_see_later_frames(changed):
    trunk, x_BTND = small_trunk(), torch.randn(2, 5, 4, 16, dtype=torch.float64)
    other = x_BTND.clone()
    other[:, changed] = torch.randn(2, 4, 16, dtype=torch.float64)
    before, after = trunk(x_BTND), trunk(other)
    torch.testing.assert_close(before[:, :changed], after[:, :changed], rtol=0, atol=1e-12)
    assert (before[:, changed:] - after[:, changed:]).abs().amax(dim=(0, 2, 3)).min() > 1e-6


def test_a_token_sees_every_token_of_its_own_frame():
    trunk, x_BTND = small_trunk(), torch.randn(1, 2, 4, 16, dtype=torch.float64)
    other = x_BTND.clone()
    other[:, 0, 0] = torch.randn(16, dtype=torch.float64)
    assert ((trunk(x_BTND) - trunk(other)).abs().amax(dim=-1) > 1e-9).all()


@pytest.mark.parametrize(("layers", "width", "heads"), [(2, 16, 2), (4, 32, 4), (12, 512, 8)])
def test_parameters_follow_the_law(layers, width, heads):
    with torch.device("meta"):
        trunk = STTransformer(STTransformerConfig(num_layers=layers, num_heads=heads, d_model=width))
    counted = sum(parameter.numel() for parameter in trunk.parameters())
    assert counted == layers // 2 * (16 * width**2 + 6 * width + 4 * width // heads) + 2 * width


@pytest.mark.parametrize("wrong", [{"num_layers": 3}, {"num_heads": 5}, {"num_layers": 0}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValidationError):
        STTransformerConfig(**({"num_layers": 2, "num_heads": 2, "d_model": 16} | wrong))


def test_patches_are_the_image_row_by_row_and_back():
    images = torch.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    patches = patchify(images, 4)
    assert patches.shape == (2, 4, 48)
    torch.testing.assert_close(patches[0, 1].reshape(4, 4, 3), images[0, :4, 4:])
    torch.testing.assert_close(unpatchify(patches, 4), images)


def test_every_place_in_the_window_has_its_own_position():
    positions = space_time_positions(9, 16, 32).reshape(-1, 32)
    distances = torch.cdist(positions, positions) + torch.eye(len(positions)) * 9
    assert distances.min() > 0.01
