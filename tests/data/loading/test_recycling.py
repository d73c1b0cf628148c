"""Batch memory is used again only when nothing refers to it any more."""

import numpy as np
import torch

from whale.data.loading.recycling import RecycledBuffers


def buffers(limit: int) -> RecycledBuffers:
    return RecycledBuffers(lambda: {"frames": np.zeros((2, 3), np.uint8)}, limit)


def address(batch: dict[str, np.ndarray]) -> int:
    return batch["frames"].__array_interface__["data"][0]


def test_memory_that_is_idle_is_used_again_in_turn():
    recycled = buffers(limit=2)
    first, second, third = (address(recycled.take()) for _ in range(3))
    assert first != second
    assert third == first


def test_a_view_a_sample_and_a_tensor_each_keep_their_memory():
    recycled = buffers(limit=3)
    views = [recycled.take()["frames"][0], torch.as_tensor(recycled.take()["frames"]), recycled.take()["frames"][:, 1]]
    for number, view in enumerate(views):
        view[...] = number + 1
    for _ in range(4):
        recycled.take()["frames"][...] = 99
    assert [int(view.flatten()[0]) for view in views] == [1, 2, 3]


def test_who_holds_more_than_the_limit_gets_memory_of_their_own():
    recycled = buffers(limit=2)
    held = [recycled.take() for _ in range(5)]
    assert len({address(batch) for batch in held}) == 5
