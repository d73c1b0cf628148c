"""Batch memory that is used again once nobody looks at it: no new pages for every batch, and a flat RSS."""

import sys
from collections import deque
from collections.abc import Callable

from whale.data.loading.consumption import Batch

UNSEEN = 3  # references to an array that only its set holds, while `_is_idle` asks: set, loop, argument


class RecycledBuffers:
    """Sets of arrays from `make`, `limit` of them at most; whoever holds more at once gets memory of their own."""

    def __init__(self, make: Callable[[], Batch], limit: int):
        self._make, self._limit = make, limit
        self._sets: deque[Batch] = deque()

    def take(self) -> Batch:
        """Views of the set that has been idle longest; its old content is still there."""
        if len(self._sets) < self._limit:
            self._sets.append(self._make())
            return self._views(len(self._sets) - 1)
        idle = next((number for number, owned in enumerate(self._sets) if _is_idle(owned)), None)
        return self._make() if idle is None else self._views(idle)

    def _views(self, number: int) -> Batch:
        """Every view, and every view of one, keeps a reference to the array that owns the memory."""
        owned = self._sets[number]
        del self._sets[number]
        self._sets.append(owned)
        return {name: array[:] for name, array in owned.items()}


def _is_idle(owned: Batch) -> bool:
    return all(sys.getrefcount(array) == UNSEEN for array in owned.values())
