"""What a causal trunk remembers of a window: keys and values of temporal attention, and nothing else.

A cache is a value: extending it gives a longer one and leaves the shorter one as it was, so that a rollout can be cut
back and continued otherwise (retracing). Room is reserved once; an extension writes behind what its cache holds, and
copies only if another continuation has written there already. Frames come first in memory: a new one is one piece, and
sums over frames run along what is contiguous.

Memory: 2 x pairs of layers x B x N x room x D numbers. Forgetting the oldest frame is not offered: the keys of deeper
layers already contain it, so a new window is filled anew.

Shapes: B batch, N tokens per frame, h heads, t frames held, F new frames, d head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class KeyValues:
    """Keys and values of one layer: the first `length` frames of `room` [2, capacity, B, N, h, d]."""

    room: Tensor
    length: int
    written: list[int] = field(default_factory=lambda: [0])  # how many frames of `room` are taken, by whichever cache

    @property
    def keys(self) -> Tensor:
        """[t, B, N, h, d]."""
        return self.room[0, : self.length]

    @property
    def values(self) -> Tensor:
        """[t, B, N, h, d]."""
        return self.room[1, : self.length]

    def extended(self, keys: Tensor, values: Tensor) -> "KeyValues":
        """With F more frames [F, B, N, h, d]; the room must suffice."""
        length = self.length + len(keys)
        room, written = self.room, self.written
        if written[0] != self.length:
            room, written = self.room.clone(), [self.length]
        room[0, self.length : length] = keys
        room[1, self.length : length] = values
        written[0] = length
        return KeyValues(room, length, written)


@dataclass(frozen=True)
class TemporalCache:
    """One KeyValues per pair of layers of a trunk."""

    layers: tuple[KeyValues, ...]

    @classmethod
    def empty(cls, num_layers: int, shape: tuple[int, int, int, int], capacity: int, like: Tensor) -> "TemporalCache":
        """Room for `capacity` frames of `shape` = (B, N, h, d), in the precision and on the device of `like`.

        Under autocast keys and values come in its precision, and a GPU keeps them so; a CPU, which gains nothing by
        it, keeps them in that of `like`.
        """
        kind, dtype = like.device.type, like.dtype
        if kind != "cpu" and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        rooms = (like.new_empty(2, capacity, *shape, dtype=dtype, requires_grad=False) for _ in range(num_layers))
        return cls(tuple(KeyValues(room, 0) for room in rooms))

    @property
    def length(self) -> int:
        """Frames held."""
        return self.layers[0].length

    @property
    def num_bytes(self) -> int:
        """Memory of the room."""
        return sum(layer.room.nbytes for layer in self.layers)

    def cut(self, length: int) -> "TemporalCache":
        """As it was when it held `length` frames."""
        return TemporalCache(tuple(KeyValues(layer.room, length, layer.written) for layer in self.layers))

    def take(self, rows: slice) -> "TemporalCache":
        """Some rows of the batch."""
        return TemporalCache(tuple(KeyValues(layer.room[:, :, rows], layer.length, [-1]) for layer in self.layers))

    @staticmethod
    def stack(caches: Sequence["TemporalCache"]) -> "TemporalCache":
        """Rows of several caches of one length as one batch."""
        (length,) = {cache.length for cache in caches}
        by_layer = zip(*(cache.layers for cache in caches), strict=True)
        rooms = (torch.cat([layer.room for layer in layers], dim=2) for layers in by_layer)
        return TemporalCache(tuple(KeyValues(room, length, [length]) for room in rooms))
