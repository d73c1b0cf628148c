"""Batch memory that is used again once nobody looks at it: no new pages for every batch, and a flat RSS."""

import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np

from whale.data.loading.receipt import Batch


class RecycledBuffers:
    """Sets of arrays from `make`; up to `limit` idle ones are kept. A set that a consumer still holds is never lent."""

    def __init__(self, make: Callable[[], Batch], limit: int):
        self._make = make
        self._idle: deque[Batch] = deque(maxlen=limit)

    def take(self) -> Batch:
        """A set for the caller alone; what was in it before is still there."""
        owned = self._idle.popleft() if self._idle else self._make()
        lent = {name: np.asarray(array.data) for name, array in owned.items()}
        # Every view of a lent array, and every tensor on it, keeps that array alive: when it goes, nobody is left.
        in_use, once = set(lent), [owned]
        for name, array in lent.items():
            weakref.finalize(array, partial(self._give_back, once, in_use, name)).atexit = False
        return lent

    def _give_back(self, once: list[Batch], in_use: set[str], name: str) -> None:
        in_use.discard(name)
        if not in_use:  # two threads may both see this, or a collection inside of it: one of them gets the set
            with suppress(IndexError):
                self._idle.append(once.pop())
