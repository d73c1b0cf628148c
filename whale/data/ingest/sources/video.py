"""Frames of an mp4 by index, one at a time: a video is never held in memory, and never looked up by its time stamps.

PyAV gets an open file, never a name or an address, so nothing in the file can make it open another one. Codec, size and
number of frames are checked. Shapes: H W image.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import av
import numpy as np

from whale.common.boundary import told
from whale.common.impostors import named
from whale.data.spec.episode import EpisodeError
from whale.data.storage.images import MAX_PIXELS, pack_rgb

CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "mpeg4", "vp9"})
TIME_TOLERANCE = 0.5  # of a period
OPTIONS = {"enable_drefs": "0", "use_absolute_path": "0"}


class VideoFile:
    """Decodes one file forwards: frames asked for in order, over however many episodes, are decoded once.

    starts: how often it began at the first frame, which going back needs. rate: see `decode_video`.
    """

    def __init__(self, path: Path, rate: float | None = None):
        self.path, self.rate, self.starts = path, rate, 0
        self._frames: Iterator[np.ndarray] = iter(())
        self._next = sys.maxsize  # nothing is open yet

    def frame(self, number: int) -> np.ndarray | None:
        """uint8 (H, W, 3) RGB; None behind the last one."""
        if number < self._next:
            self._frames, self._next = decode_video(self.path, self.rate), 0
            self.starts += 1
        image_HWC = None
        for _ in range(number - self._next + 1):
            try:
                image_HWC = next(self._frames, None)
            except EpisodeError:
                self._next = sys.maxsize  # whoever asks next hears the same
                raise
            if image_HWC is None:
                break
            self._next += 1
        return image_HWC


class VideoFrames(Sequence[bytes]):
    """Frames `start` to `start + count` - 1 of a file, as packed RGB; `is_whole`: the file holds no others.

    Raises EpisodeError (decode_error, length_mismatch) when frames are read, not before.
    """

    def __init__(self, video: VideoFile, start: int, count: int, is_whole: bool):
        self.video, self.start, self.length, self.is_whole = video, start, count, is_whole

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.length):
            yield self[number]
        if self.is_whole and self.video.frame(self.start + self.length) is not None:
            raise EpisodeError("length_mismatch", f"{self.video.path.name}: more than {self.length} frames")

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "VideoFrames": ...
    def __getitem__(self, index: int | slice) -> "bytes | VideoFrames":
        if isinstance(index, slice):
            start, stop, step = index.indices(self.length)
            if step != 1:
                raise ValueError("frames are read in order")
            count = max(stop - start, 0)
            return VideoFrames(self.video, self.start + start, count, self.is_whole and stop == self.length)
        if not 0 <= index < self.length:
            raise IndexError(index)
        image_HWC = self.video.frame(self.start + index)
        if image_HWC is None:
            what = f"{self.video.path.name}: {index} frames or fewer for {self.length} rows"
            raise EpisodeError("length_mismatch", what)
        return pack_rgb(image_HWC)


def decode_video(path: Path, rate: float | None = None) -> Iterator[np.ndarray]:
    """uint8 (H, W, 3) RGB, in the order of presentation.

    rate: frames per second that the dataset claims; frames that are not one period apart, give or take TIME_TOLERANCE
    of it, raise EpisodeError (time_gap): where frames were lost, all that follow would stand beside other rows.
    """
    try:
        with (
            open(path, "rb") as stream,
            av.open(stream, "r", format="mp4", options=OPTIONS, metadata_errors="replace") as container,
        ):
            if len(container.streams.video) != 1:
                raise EpisodeError("decode_error", f"{path.name}: {len(container.streams.video)} video streams")
            video = container.streams.video[0]
            context = video.codec_context
            if context is None:
                raise EpisodeError("decode_error", f"{path.name}: no codec is known for its video")
            if context.name not in CODECS:
                raise EpisodeError("decode_error", f"{path.name}: codec {context.name}, known: {sorted(CODECS)}")
            if not 0 < context.width * context.height <= MAX_PIXELS:
                raise EpisodeError("decode_error", f"{path.name}: {context.height} x {context.width} refused")
            context.thread_count = 1
            before: float | None = None
            for number, frame in enumerate(container.decode(video)):
                before = _checked_time(frame.time, before, number, rate, path)
                if frame.width * frame.height > MAX_PIXELS:
                    raise EpisodeError("decode_error", f"{path.name}: {frame.height} x {frame.width} refused")
                yield frame.to_ndarray(format="rgb24")
    except EpisodeError:
        raise
    except Exception as error:  # whatever FFmpeg and its wrapper make of the bytes
        raise EpisodeError("decode_error", f"{path.name}: {named(path, told(error))}") from None


def _checked_time(
    time: float | None, before: float | None, number: int, rate: float | None, path: Path
) -> float | None:
    if rate is not None and time is not None and before is not None:
        periods = (time - before) * rate
        if abs(periods - 1.0) > TIME_TOLERANCE:
            detail = f"frame {number} comes {time - before:.4g} s after the one before, expected {1 / rate:.4g} s"
            raise EpisodeError("time_gap", f"{path.name}: {detail}")
    return time
