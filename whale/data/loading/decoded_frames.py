"""Frames that are decoded once and kept, as far as a stated memory goes.

Decoding is what a loader of pixels spends its time on. Once the memory is given out, other episodes are decoded at
every draw. Nothing is dropped for something newer: an epoch draws every segment once, so what was used last comes back
last. Shapes: F frames of an episode, H W image, C channels.
"""

import threading
from collections.abc import Callable, Hashable

import numpy as np

Decode = Callable[[int, np.ndarray], None]


class DecodedFrames:
    """Room for `capacity` frames uint8 [H, W, C], given to whole episodes; any number of threads may read.

    All lie in one array, so that frames of many episodes are copied by one call, which lets other threads run. Its
    pages become memory as frames are decoded into them.
    """

    def __init__(self, capacity: int, shape_HWC: tuple[int, int, int]):
        self.capacity, self._given = capacity, 0
        self._frames = np.empty((capacity, *shape_HWC), np.uint8)
        self._episodes: dict[Hashable, _Episode] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Memory once all is given out."""
        return self._frames.nbytes

    def place(self, episode: Hashable, num_frames: int, start: int, stop: int, decode: Decode) -> int | None:
        """Where frame `start` of `episode` lies, those up to `stop` behind it; None if there is no room for `episode`.

        `decode(first, into)` fills `into` with the frames from `first` on; what it raises passes through, and the
        frames are not taken for decoded.
        """
        kept = self._kept(episode, num_frames)
        if kept is None:
            return None
        if not kept.is_complete:
            kept.require(self._frames[kept.first : kept.first + num_frames], start, stop, decode)
        return kept.first + start

    def copy(self, places: np.ndarray, out: np.ndarray) -> None:
        """Fill uint8 `out` [..., H, W, C] with the frames at `places` [...]."""
        np.take(self._frames, places, axis=0, out=out, mode="clip")  # any other mode copies twice

    def _kept(self, episode: Hashable, num_frames: int) -> "_Episode | None":
        if (kept := self._episodes.get(episode)) is not None:
            return kept
        with self._lock:
            if episode not in self._episodes:
                if self._given + num_frames > self.capacity:
                    return None
                self._episodes[episode] = _Episode(self._given, num_frames)
                self._given += num_frames
            return self._episodes[episode]


class _Episode:
    """`first`: where its frames begin. A frame that is there is never written again, so it is read without a lock."""

    def __init__(self, first: int, num_frames: int):
        self.first, self.is_complete = first, False
        self._is_there = np.zeros(num_frames, bool)
        self._lock = threading.Lock()

    def require(self, frames_FHWC: np.ndarray, start: int, stop: int, decode: Decode) -> None:
        """Decode what is missing of frames start..stop-1, run by run."""
        with self._lock:
            missing = start + np.flatnonzero(~self._is_there[start:stop])
            for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1) if len(missing) else ():
                first, last = int(run[0]), int(run[-1]) + 1
                decode(first, frames_FHWC[first:last])
                self._is_there[first:last] = True
            self.is_complete = bool(self._is_there.all())
