import pytest
import torch
from torch.nn import functional as F

from whale.models.dynamics import token_loss
from whale.models.dynamics.token_loss import add_by_comparison, tied_cross_entropy
from whale.models.trunk.masking import mean_over_valid, mean_weights

TOKENS, WIDTH, CODES = 37, 6, 11


def values(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    features, codes = (torch.randn(size, WIDTH, generator=generator, dtype=dtype) for size in (TOKENS, CODES))
    targets, current = torch.randint(0, CODES, (2, TOKENS), generator=generator)
    weights = torch.rand(TOKENS, generator=generator, dtype=dtype)
    parameters = [value.requires_grad_() for value in (features, codes, torch.tensor(0.7, dtype=dtype))]
    return parameters, targets, weights, current


def reference(features, codes, bias, targets, weights, current):
    logits = features @ codes.T + bias * F.one_hot(current, CODES)
    return (F.cross_entropy(logits, targets, reduction="none") * weights).sum(), logits.argmax(-1) == targets


@pytest.mark.parametrize("chunk", [1, 5, 1000])  # rows per chunk
def test_loss_hits_and_gradients_equal_torch_whatever_the_chunks(monkeypatch, chunk):
    monkeypatch.setitem(token_loss.CHUNK_ELEMENTS, "cpu", chunk * CODES)
    (features, codes, bias), targets, weights, current = values()
    wanted, wanted_hits = reference(features, codes, bias, targets, weights, current)
    loss, hits = tied_cross_entropy(features, codes, targets, weights, current, bias)
    torch.testing.assert_close(loss, wanted)
    assert torch.equal(hits, wanted_hits)
    inputs = (features, codes, bias)
    for found, expected in zip(
        torch.autograd.grad(3 * loss, inputs), torch.autograd.grad(3 * wanted, inputs), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_without_gradients_the_loss_is_the_same():
    (features, codes, bias), targets, weights, current = values()
    loss, _ = tied_cross_entropy(features, codes, targets, weights, current, bias)
    with torch.no_grad():
        assert tied_cross_entropy(features, codes, targets, weights, current, bias)[0] == loss.detach()


def test_large_logits_stay_finite():
    (features, codes, _), targets, weights, _ = values(torch.float32)
    loss, _ = tied_cross_entropy(features.detach() * 1e4, codes, targets, weights)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(codes.grad).all()


def test_under_autocast_products_are_bfloat16_and_the_loss_is_float():
    (features, codes, bias), targets, weights, current = values(torch.float32)
    wanted, _ = reference(features, codes, bias, targets, weights, current)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = tied_cross_entropy(features, codes, targets, weights, current, bias)
    found, expected = (torch.autograd.grad(value, (features, codes)) for value in (loss, wanted))
    assert loss.dtype == torch.float32 and all(grad.dtype == torch.float32 for grad in found)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.05)


def test_mean_weights_give_the_mean_over_valid():
    generator = torch.Generator().manual_seed(1)
    value, valid = torch.rand(4, 5, generator=generator), torch.rand(4, 5, generator=generator) > 0.4
    valid[2] = False
    torch.testing.assert_close((value * mean_weights(valid, value.dtype)).sum(), mean_over_valid(value, valid))


def test_adding_by_comparison_is_scatter_add():
    generator = torch.Generator().manual_seed(7)
    rows, value = torch.randn(50, 9, generator=generator), torch.randn(50, 1, generator=generator)
    place = torch.randint(0, 9, (50, 1), generator=generator)
    expected = rows.clone().scatter_add_(1, place, value)
    add_by_comparison(rows, place, value)
    assert torch.equal(rows, expected)
