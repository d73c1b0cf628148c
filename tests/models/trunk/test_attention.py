import pytest
import torch

from whale.models.trunk.attention import (
    LONGEST_WRITTEN_OUT,
    attend,
    attend_to_past,
    composite_attention,
    mixed_by_kernel,
    plain_attention,
)
from whale.models.trunk.cpu_kernels import fused_attention

AXES = pytest.mark.parametrize("axis", ["space", "time"])


def inputs(frames: int = 3, tokens: int = 5, width: int = 8, heads: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, frames, tokens, 3 * width), (width // heads,), (width // heads,))
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def loops(qkv, query_gain, key_gain, axis):
    """Attention by its definition, one query at a time."""
    heads = qkv.shape[-1] // 3 // len(query_gain)
    query, key, value = qkv.unflatten(-1, (3, heads, -1)).unbind(3)
    query, key = (
        x * x.square().mean(-1, keepdim=True).add(1e-6).rsqrt() * gain
        for x, gain in ((query, query_gain), (key, key_gain))
    )
    out = torch.zeros_like(value)
    for b, t, n, h in torch.cartesian_prod(*(torch.arange(size) for size in value.shape[:4])).tolist():
        seen = (b, t, slice(None), h) if axis == "space" else (b, slice(0, t + 1), n, h)
        scores = key[seen] @ query[b, t, n, h] / len(query_gain) ** 0.5
        out[b, t, n, h] = scores.softmax(0) @ value[seen]
    return out.flatten(-2)


@AXES
@pytest.mark.parametrize("attention", [composite_attention, fused_attention, plain_attention])
@pytest.mark.parametrize("frames", [1, 3])
def test_attention_is_its_definition(attention, axis, frames):
    values = [value.detach() for value in inputs(frames)]
    torch.testing.assert_close(attention(*values, axis), loops(*values, axis), rtol=0, atol=1e-12)


@AXES
@pytest.mark.parametrize("frames", [1, 3])
def test_both_implementations_have_the_same_gradients(axis, frames):
    values = inputs(frames)
    weight = torch.randn(2, frames, 5, 8, dtype=torch.float64)
    found = [
        torch.autograd.grad((attention(*values, axis) * weight).sum(), values)
        for attention in (composite_attention, fused_attention)
    ]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_long_windows_are_mixed_as_short_ones():
    values = inputs(frames=LONGEST_WRITTEN_OUT + 1, tokens=2)
    torch.testing.assert_close(composite_attention(*values, "time"), loops(*values, "time"), rtol=0, atol=1e-12)


@AXES
def test_the_gradient_of_the_fused_attention_is_the_numerical_one(axis):
    assert torch.autograd.gradcheck(lambda *values: fused_attention(*values, axis), inputs(2, 2))


def test_a_fused_pass_can_be_differentiated_again_from_the_same_graph():
    values = inputs()
    out = fused_attention(*values, "time").sum()
    first, second = (torch.autograd.grad(out, values, retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_takes_the_implementation_that_keeps_qk_norm_in_float(dtype):
    qkv, *gains = (value.detach().float() for value in inputs())
    out = attend(qkv.to(dtype), *gains, "space")
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), composite_attention(qkv, *gains, "space"), rtol=0, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_new_frame_sees_the_past_alike_by_sums_and_by_the_kernel_for_gpus(dtype):
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(2, 5, 3, 1, 8, generator=generator, dtype=dtype)
    keys, values = (torch.randn(6, 2, 5, 3, 8, generator=generator, dtype=dtype) for _ in range(2))
    expected = attend_to_past(query, keys, values)
    torch.testing.assert_close(mixed_by_kernel(query, keys, values), expected)
    assert expected.shape == (2, 1, 5, 24)
