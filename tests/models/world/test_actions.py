"""Raw actions onto the networks' range, on tensors: numpy's numbers to the bit, and no look at a device."""

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from whale.data.segments.actions import ActionNormalizer
from whale.models.world.actions import ActionMap
from whale.models.world.learned import LearnedWorld

Q01, Q99 = np.array([-0.013, -2, 0, -0.5, 1, 5, 0.0]), np.array([0.0171, 2.3, 4, 0.7, 3, 5, 1.0])  # one degenerate
MASK = np.array([True, True, False, True, True, True, True])


def normalizer(**changes) -> ActionNormalizer:
    values = {"q01": Q01, "q99": Q99, "mask": MASK, "minimum": Q01 - 1.3, "maximum": Q99 + 0.7} | changes
    return ActionNormalizer(**values)


@pytest.mark.parametrize("changes", [{}, {"minimum": Q01, "maximum": Q99}, {"mask": ~MASK}], ids=len)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_it_gives_the_bits_of_the_normaliser(changes, dtype, data):
    shape = data.draw(st.sampled_from([(7,), (3, 7), (2, 5, 7)]))
    values = st.floats(width=8 * np.dtype(dtype).itemsize) | st.floats(-4, 4, width=32)
    raw = data.draw(arrays.arrays(dtype, shape, elements=values))
    with np.errstate(all="ignore"):
        expected = normalizer(**changes).normalize(raw)
    found = ActionMap.of(normalizer(**changes))(torch.from_numpy(raw)).numpy()
    assert found.dtype == np.float32 and np.array_equal(np.isnan(found), np.isnan(expected))
    known = ~np.isnan(expected)
    assert np.array_equal(found[known].view(np.int32), expected[known].view(np.int32))


def test_a_million_actions_give_the_bits_of_the_normaliser():
    raw = np.random.default_rng(0).normal(0, 1.5, (150_000, 7)).astype(np.float32)
    assert ActionMap.of(normalizer())(torch.from_numpy(raw)).numpy().tobytes() == normalizer().normalize(raw).tobytes()


def test_the_raw_actions_are_left_as_they_are():
    raw = torch.full((2, 7), 3.0, dtype=torch.float64)
    ActionMap.of(normalizer())(raw)
    assert (raw == 3).all()


def test_a_world_takes_actions_where_they_lie():
    """Numbers on `meta` cannot be read: a way through numpy would raise."""
    parts = tiny.tokenizer(), tiny.behavior(), tiny.dynamics()
    world = LearnedWorld(*parts, tiny.WINDOW, normalize=ActionMap.of(normalizer()))
    for _ in range(2):
        taken = world.normalised(torch.zeros(3, 2, 7, device="meta"))
        assert taken.device.type == "meta" and taken.shape == (3, 2, 7) and taken.dtype == torch.float32


@pytest.mark.gpu
def test_a_gpu_gives_the_same_bits():
    raw = torch.from_numpy(np.random.default_rng(0).normal(0, 1.5, (10_000, 7)).astype(np.float32))
    assert torch.equal(ActionMap.of(normalizer())(raw.cuda()).cpu(), ActionMap.of(normalizer())(raw))
