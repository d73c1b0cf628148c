import pytest
import torch
from torch.nn import functional as F

from whale.models.trunk import linear as module
from whale.models.trunk.linear import Linear, linear, product

LARGE = (2, 256, 96, 384)  # batch, rows, features in, features out: more than SMALLEST_ONEDNN multiply-adds
onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch is built without oneDNN")


def inputs(batch: int, rows: int, fan_in: int, fan_out: int) -> tuple[torch.Tensor, Linear]:
    torch.manual_seed(0)
    return torch.randn(batch, rows, fan_in), linear(fan_in, fan_out, bias=True)


@onednn
def test_large_float32_products_and_no_others_are_onednns():
    x, layer = inputs(*LARGE)
    assert module._is_for_onednn(x, layer.weight)
    assert not module._is_for_onednn(x[:, :2], layer.weight)
    assert not module._is_for_onednn(x.double(), layer.weight.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not module._is_for_onednn(x, layer.weight)


def test_values_and_gradients_are_those_of_float64():
    x, layer = inputs(*LARGE)
    x.requires_grad_()
    layer.bias.data.normal_()
    weights = torch.randn(*LARGE[:2], LARGE[3])
    (layer(x) * weights).sum().backward()
    exact = [each.detach().double().requires_grad_() for each in (x, layer.weight, layer.bias)]
    expected = F.linear(*exact)
    (expected * weights.double()).sum().backward()
    torch.testing.assert_close(layer(x).double(), expected, rtol=0, atol=2e-5)
    for mine, theirs in zip((x, layer.weight, layer.bias), exact, strict=True):
        scale = theirs.grad.abs().max()
        torch.testing.assert_close(mine.grad.double() / scale, theirs.grad / scale, rtol=0, atol=2e-6)


@pytest.mark.parametrize("learns", ["x", "weight", "bias"])
def test_each_gradient_can_be_asked_for_alone(learns):
    x, layer = inputs(*LARGE)
    tensors = {"x": x, "weight": layer.weight.detach(), "bias": layer.bias.detach()}
    tensors[learns].requires_grad_()
    product(tensors["x"], tensors["weight"], tensors["bias"]).sum().backward()
    assert {name for name, each in tensors.items() if each.grad is not None} == {learns}
    assert tensors[learns].grad.shape == tensors[learns].shape


def test_autocast_still_rounds_to_bfloat16():
    x, layer = inputs(*LARGE)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_the_same_input_gives_the_same_bytes_with_and_without_gradients():
    x, layer = inputs(*LARGE)
    first = layer(x)
    with torch.no_grad():
        assert torch.equal(layer(x), first) and torch.equal(layer(x), first)


def test_columns_of_a_larger_matrix_and_transposed_weights_are_read_in_place():
    torch.manual_seed(0)
    wide, weight = torch.randn(512, 200), torch.randn(384, 96)
    torch.testing.assert_close(product(wide[:, 50:146], weight), wide[:, 50:146] @ weight.T, rtol=0, atol=2e-4)
    torch.testing.assert_close(
        product(torch.ones(512, 384), weight.T), torch.ones(512, 384) @ weight, rtol=0, atol=2e-4
    )
