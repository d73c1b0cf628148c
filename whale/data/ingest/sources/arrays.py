"""Pictures that are stored as arrays: frames one at a time, whatever holds them (numpy, HDF5).

Shapes: T frames, H W image, C channels.
"""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from whale.common.boundary import told
from whale.data.spec.episode import EpisodeError
from whale.data.storage.images import MAX_PIXELS, pack_rgb

LEAST_SIDE = 16


def is_frames(shape: tuple[int, ...], dtype: Any) -> bool:
    """uint8 (T, H, W, 3) of a picture's size."""
    return np.dtype(dtype) == np.uint8 and len(shape) == 4 and shape[3] == 3 and _is_picture(shape[1], shape[2])


def is_planes(shape: tuple[int, ...], dtype: Any) -> bool:
    """uint8 (T, C, H, W) with C a multiple of 3: pictures with their channels first, perhaps several stacked."""
    return np.dtype(dtype) == np.uint8 and len(shape) == 4 and shape[1] % 3 == 0 and _is_picture(shape[2], shape[3])


def _is_picture(height: int, width: int) -> bool:
    return min(height, width) >= LEAST_SIDE and height * width <= MAX_PIXELS


class ArrayFrames(Sequence[bytes]):
    """Frames `start` to `stop` - 1 as packed RGB; `channels`: the first of three planes of (T, C, H, W)."""

    def __init__(self, array: Any, start: int = 0, stop: int | None = None, channels: int | None = None):
        self.array, self.start, self.stop = array, start, len(array) if stop is None else stop
        self.channels = channels

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[bytes]:
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "ArrayFrames": ...
    def __getitem__(self, index: int | slice) -> "bytes | ArrayFrames":
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("frames are read in order")
            return ArrayFrames(self.array, self.start + start, self.start + max(stop, start), self.channels)
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            frame = np.asarray(self.array[self.start + index])
        except Exception as error:  # a damaged chunk: each storage library has errors of its own
            raise EpisodeError("decode_error", f"frame {index}: {told(error)}") from None
        return pack_rgb(frame if self.channels is None else frame[self.channels : self.channels + 3].transpose(1, 2, 0))
