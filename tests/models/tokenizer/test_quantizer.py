import pytest
import torch
from torch.nn import functional as F

from whale.models.tokenizer.quantizer import Quantizer


def test_lookup_equals_brute_force_nearest_neighbour():
    torch.manual_seed(0)
    quantizer = Quantizer(num_codes=40, latent_dim=6)
    quantizer.codebook.data *= torch.rand(40, 1) * 5  # only directions count
    latents = F.normalize(torch.randn(3, 7, 6), dim=-1)
    codes = F.normalize(quantizer.codebook.double(), dim=-1)
    distances = (latents.double()[..., None, :] - codes).square().sum(-1)
    assert torch.equal(quantizer.lookup(latents), distances.argmin(-1))


def test_the_straight_through_gradient_is_the_identity():
    quantizer = Quantizer(num_codes=8, latent_dim=4)
    latents = F.normalize(torch.randn(5, 4), dim=-1).requires_grad_()
    weight = torch.randn(5, 4)
    (quantizer(latents).latents * weight).sum().backward()
    torch.testing.assert_close(latents.grad, weight)


def test_codebook_and_commitment_errors_send_their_gradients_to_one_side_each():
    quantizer = Quantizer(num_codes=8, latent_dim=4)
    latents = F.normalize(torch.randn(5, 4), dim=-1).requires_grad_()
    quantizer(latents).codebook_error.mean().backward()
    assert latents.grad is None and quantizer.codebook.grad.abs().sum() > 0
    quantizer.codebook.grad = None
    quantizer(latents).commitment_error.mean().backward()
    assert latents.grad.abs().sum() > 0 and quantizer.codebook.grad is None


def test_a_code_maps_to_itself_without_error():
    quantizer = Quantizer(num_codes=8, latent_dim=4)
    result = quantizer(quantizer.codes().detach())
    assert torch.equal(result.tokens, torch.arange(8))
    assert result.codebook_error.max() < 1e-12


def test_the_lowest_index_wins_a_tie():
    quantizer = Quantizer(num_codes=6, latent_dim=4)
    quantizer.codebook.data[4] = quantizer.codebook.data[2]
    quantizer.codebook.data[5] = quantizer.codebook.data[2]
    latents = F.normalize(quantizer.codebook.detach(), dim=-1)
    assert quantizer.lookup(latents).tolist() == [0, 1, 2, 3, 2, 2]


@pytest.mark.parametrize("num_codes", [512, 2048])
def test_autocast_finds_the_tokens_that_float32_finds(num_codes):
    """Codes that lie close together, as trained ones do: in bfloat16 one in a hundred would be another."""
    torch.manual_seed(0)
    quantizer = Quantizer(num_codes, latent_dim=16)
    quantizer.codebook.data = torch.randn(8, 16).repeat(num_codes // 8, 1) + 0.05 * torch.randn(num_codes, 16)
    latents = F.normalize(quantizer.codes().detach() + 0.02 * torch.randn(num_codes, 16), dim=-1)
    plain = quantizer(latents).tokens
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer(latents).tokens, plain)
    rounded = (latents.bfloat16() @ quantizer.codes().bfloat16().T).argmax(-1)
    assert not torch.equal(rounded, plain)
