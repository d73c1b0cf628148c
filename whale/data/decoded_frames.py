"""Frames that are decoded once and kept, as far as a stated memory goes.

Decoding is what a loader of pixels spends its time on. Once the memory is given out, other episodes are decoded at
every draw. Nothing is dropped for something newer: an epoch draws every segment once, so what was used last comes back
last. Shapes: F frames of an episode, T frames of a segment, H W image, C channels.
"""

import threading
from collections.abc import Callable, Hashable

import numpy as np

Decode = Callable[[int, np.ndarray], None]


class DecodedFrames:
    """Frames of whole episodes, up to `limit` bytes in all; any number of threads may read."""

    def __init__(self, limit: int):
        self.limit, self._given = limit, 0
        self._episodes: dict[Hashable, _Episode] = {}
        self._lock = threading.Lock()

    def read_into(self, episode: Hashable, num_frames: int, start: int, out_THWC: np.ndarray, decode: Decode) -> None:
        """Fill uint8 `out` with the frames of `episode` from `start` on.

        `decode(first, into)` fills `into` with the frames from `first` on; what it raises passes through, and the
        frames are not taken for decoded.
        """
        kept = self._kept(episode, (num_frames, *out_THWC.shape[1:]))
        if kept is None:
            decode(start, out_THWC)
        else:
            kept.read_into(start, out_THWC, decode)

    def _kept(self, episode: Hashable, shape_FHWC: tuple[int, ...]) -> "_Episode | None":
        with self._lock:
            if episode in self._episodes:
                return self._episodes[episode]
            size = int(np.prod(shape_FHWC))
            if self._given + size > self.limit:
                return None
            self._given += size
            return self._episodes.setdefault(episode, _Episode(shape_FHWC))


class _Episode:
    def __init__(self, shape_FHWC: tuple[int, ...]):
        self._frames = np.empty(shape_FHWC, np.uint8)
        self._is_there = np.zeros(shape_FHWC[0], bool)
        self._is_complete = False
        self._lock = threading.Lock()

    def read_into(self, start: int, out_THWC: np.ndarray, decode: Decode) -> None:
        stop = start + len(out_THWC)
        if self._is_complete:  # and so for ever: readers need not wait for each other
            out_THWC[...] = self._frames[start:stop]
            return
        with self._lock:
            missing = np.flatnonzero(~self._is_there[start:stop])
            if len(missing):
                first, last = start + missing[0], start + missing[-1] + 1
                self._is_there[first:last] = False  # also of what lies between, should decoding fail
                decode(int(first), self._frames[first:last])
                self._is_there[first:last] = True
                self._is_complete = bool(self._is_there.all())
            out_THWC[...] = self._frames[start:stop]
