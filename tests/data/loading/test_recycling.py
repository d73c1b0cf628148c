"""Batch memory is used again only when nothing refers to it any more."""

import numpy as np
import torch

from whale.data.loading.recycling import RecycledBuffers


def buffers(limit: int) -> RecycledBuffers:
    return RecycledBuffers(lambda: {"frames": np.zeros((2, 3), np.uint8)}, limit)


def address(batch: dict[str, np.ndarray]) -> int:
    return batch["frames"].__array_interface__["data"][0]


def test_memory_that_is_idle_is_used_again():
    recycled = buffers(limit=2)
    first = recycled.take()
    where = address(first)
    second = recycled.take()
    assert address(second) != where
    del first
    assert address(recycled.take()) == where


def test_a_view_a_sample_and_a_tensor_each_keep_their_memory():
    recycled = buffers(limit=3)
    views = [recycled.take()["frames"][0], torch.as_tensor(recycled.take()["frames"]), recycled.take()["frames"][:, 1]]
    for number, view in enumerate(views):
        view[...] = number + 1
    for _ in range(4):
        recycled.take()["frames"][...] = 99
    assert [int(view.flatten()[0]) for view in views] == [1, 2, 3]


def test_a_set_is_lent_again_only_when_all_its_arrays_are_let_go():
    recycled = RecycledBuffers(lambda: {"a": np.zeros(1), "b": np.zeros(1)}, limit=1)
    lent = recycled.take()
    part, where = lent["b"][:], lent["a"].ctypes.data
    del lent
    assert recycled.take()["a"].ctypes.data != where
    del part
    assert where in {recycled.take()["a"].ctypes.data, recycled.take()["a"].ctypes.data}


def test_whoever_holds_many_gets_memory_of_their_own_and_only_so_much_of_it_is_kept():
    made = []
    recycled = RecycledBuffers(lambda: made.append(1) or {"frames": np.zeros((2, 3), np.uint8)}, limit=2)
    held = [recycled.take() for _ in range(5)]
    assert len({address(batch) for batch in held}) == 5
    held.clear()
    held = [recycled.take() for _ in range(5)]
    assert len(made) == 5 + 3
