"""Pictures that are stored as arrays: frames one at a time, whatever holds them (numpy, HDF5, a tensor of RLDS).

Shapes: T frames, H W image, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from whale.common.boundary import told
from whale.common.limits import CHUNK_BYTES
from whale.data.spec.episode import EpisodeError
from whale.data.storage.images import JPEG_MAGIC, MAX_PIXELS, PNG_MAGIC, pack_rgb

LEAST_SIDE = 16
CHANNELS = (3, 4)  # the fourth is transparency, which is dropped as it is of a PNG


def is_frames(shape: tuple[int, ...], dtype: Any) -> bool:
    """uint8 (T, H, W, 3), or 4, of a picture's size."""
    return np.dtype(dtype) == np.uint8 and len(shape) == 4 and shape[3] in CHANNELS and _is_picture(shape[1], shape[2])


def is_planes(shape: tuple[int, ...], dtype: Any) -> bool:
    """uint8 (T, C, H, W) with C a multiple of 3: pictures with their channels first, perhaps several stacked."""
    is_stack = len(shape) == 4 and shape[1] > 0 and shape[1] % 3 == 0
    return np.dtype(dtype) == np.uint8 and is_stack and _is_picture(shape[2], shape[3])


def is_encoded_rows(shape: tuple[int, ...], dtype: Any, first: Callable[[], Any]) -> bool:
    """uint8 (T, N) whose rows are JPEG or PNG files, padded with zeros; `first` reads the first row."""
    is_rows = np.dtype(dtype) == np.uint8 and len(shape) == 2 and shape[0] > 0
    is_rows = is_rows and LEAST_SIDE <= shape[1] <= CHUNK_BYTES
    return is_rows and np.asarray(first()).tobytes().startswith((JPEG_MAGIC, PNG_MAGIC))


def pictures(values: Any) -> Any:
    """A numpy array of pictures as frames; anything else as it is."""
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8:
        return values
    if is_frames(values.shape, values.dtype):
        return ArrayFrames(values)
    if is_planes(values.shape, values.dtype) and values.shape[1] == 3:
        return ArrayFrames(values, channels=0)
    if is_encoded_rows(values.shape, values.dtype, lambda: values[0]):
        return EncodedFrames(values)
    return values


def planes(name: str, array: Any) -> "dict[str, ArrayFrames]":
    """Every three planes of (T, C, H, W) under `name[c:c + 3]`; three alone under the name itself, too."""
    found = {f"{name}[{c}:{c + 3}]": ArrayFrames(array, channels=c) for c in range(0, array.shape[1], 3)}
    return found | ({name: ArrayFrames(array, channels=0)} if array.shape[1] == 3 else {})


def _is_picture(height: int, width: int) -> bool:
    return min(height, width) >= LEAST_SIDE and height * width <= MAX_PIXELS


class StoredFrames(Sequence[bytes]):
    """Frames `start` to `stop` - 1 of something that is indexed by step; EpisodeError for one that cannot be read."""

    def __init__(self, array: Any, start: int = 0, stop: int | None = None):
        self.array, self.start, self.stop = array, start, len(array) if stop is None else stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[bytes]:
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredFrames": ...
    def __getitem__(self, index: int | slice) -> "bytes | StoredFrames":
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("frames are read in order")
            return self._part(self.start + start, self.start + max(stop, start))
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            stored = self.array[self.start + index]
        except Exception as error:  # a damaged chunk: each storage library has errors of its own
            raise EpisodeError("decode_error", f"frame {self.start + index} cannot be read: {told(error)}") from None
        return self._frame(stored)

    def _part(self, start: int, stop: int) -> "StoredFrames":
        return type(self)(self.array, start, stop)

    def _frame(self, stored: Any) -> bytes:
        raise NotImplementedError


class ArrayFrames(StoredFrames):
    """Pixels, as packed RGB; `channels`: the first of three planes of (T, C, H, W)."""

    def __init__(self, array: Any, start: int = 0, stop: int | None = None, channels: int | None = None):
        super().__init__(array, start, stop)
        self.channels = channels

    def _part(self, start: int, stop: int) -> "ArrayFrames":
        return ArrayFrames(self.array, start, stop, self.channels)

    def _frame(self, stored: Any) -> bytes:
        frame = np.asarray(stored)
        if self.channels is not None:
            return pack_rgb(frame[self.channels : self.channels + 3].transpose(1, 2, 0))
        return pack_rgb(frame[..., :3])


class EncodedFrames(StoredFrames):
    """JPEG or PNG files: byte strings, arrays of bytes, or rows padded with zeros."""

    def _frame(self, stored: Any) -> bytes:
        data = stored if isinstance(stored, bytes) else np.asarray(stored).tobytes()
        return data.rstrip(b"\0") if data.endswith(b"\0") else data  # neither format ends with one
