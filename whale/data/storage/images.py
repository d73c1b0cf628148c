"""One encoded image in, one canonical JPEG out; and the one decoder of the project.

JPEG is decoded by libjpeg-turbo (simplejpeg, strict), PNG by OpenCV, each only after its header has been read and found
small enough: a decompression bomb is refused before memory is taken. Pillow never sees data.
Shapes: H W image, 3 RGB channels.
"""

import struct
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg

from whale.common.errors import BadDataError
from whale.common.limits import PIXELS as MAX_PIXELS

JPEG_MAGIC, PNG_MAGIC = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
RGB_MAGIC = b"RGB8\x00\r\n\x1a"  # then height and width as uint32: pixels that were never an encoded image
JPEG_QUALITY = 95  # where no parameter or manifest says one: raw pictures of simulators, previews, bundles
ENCODER = f"simplejpeg {simplejpeg.__version__} 4:4:4"

# One thread: ingest workers are processes, and the resize must not depend on a thread count.
cv2.setNumThreads(1)


class ImageError(BadDataError):
    """An image that cannot become a frame; `reason` is decode_error or shape_mismatch."""

    def __init__(self, what: str, *, reason: str = "decode_error", **fields):
        super().__init__(what, **fields)
        self.reason = reason


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) from the header alone; raises ImageError for anything but an 8-bit RGB JPEG or PNG."""
    if data.startswith(JPEG_MAGIC):
        height, width = _jpeg_size(data)
    elif data.startswith(PNG_MAGIC):
        height, width = _png_size(data)
    elif data.startswith(RGB_MAGIC):
        height, width = _rgb_size(data)
    else:
        raise ImageError("neither JPEG nor PNG", found=data[:8], expected="magic bytes of JPEG or PNG")
    if not 0 < height * width <= MAX_PIXELS:
        raise ImageError("image size refused", found=f"{height} x {width}", expected=f"1 to {MAX_PIXELS} pixels")
    return height, width


def decode(data: bytes) -> np.ndarray:
    """uint8 (H, W, 3) in the channel order the image was stored in."""
    image_size(data)
    if data.startswith(JPEG_MAGIC):
        return _decode_jpeg(data, strict=True)
    if data.startswith(RGB_MAGIC):
        return np.frombuffer(data, np.uint8, offset=len(RGB_MAGIC) + 8).reshape(*image_size(data), 3)
    image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image_HWC is None:
        raise ImageError("PNG does not decode", found=f"{len(data)} bytes")
    return cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)


def _decode_jpeg(data: bytes, colorspace: str = "RGB", **options: Any) -> np.ndarray:
    try:
        return simplejpeg.decode_jpeg(data, colorspace=colorspace, **options)
    except ValueError as error:
        raise ImageError("JPEG does not decode", found=str(error)) from None


def check_jpeg(data: bytes) -> None:
    """Raise what `decode` would raise for a damaged JPEG, at half its cost.

    Every coefficient is read, but only an eighth of the size in grey is computed from them.
    """
    _decode_jpeg(data, colorspace="GRAY", min_height=1, min_width=1, strict=True)


def decode_into(frames: Sequence[bytes], out_THWC: np.ndarray) -> None:
    """Decode JPEG frames where they shall lie: a batch is filled without a copy (a third of its cost)."""
    for data, image_HWC in zip(frames, out_THWC, strict=True):
        size = image_size(data)
        if size != image_HWC.shape[:2]:
            raise ImageError("a frame of another size", reason="shape_mismatch", found=size, expected=image_HWC.shape)
        if data.startswith(JPEG_MAGIC):
            _decode_jpeg(data, strict=True, buffer=image_HWC)
        else:
            image_HWC[...] = decode(data)


def pack_rgb(image_HWC: np.ndarray) -> bytes:
    """Pixels of a video or an array in the form of an encoded image, so that all frames go one way."""
    if image_HWC.dtype != np.uint8 or image_HWC.ndim != 3 or image_HWC.shape[2] != 3:
        raise ImageError("not an RGB image", found=[str(image_HWC.dtype), image_HWC.shape], expected="uint8 (H, W, 3)")
    return RGB_MAGIC + struct.pack("<II", *image_HWC.shape[:2]) + np.ascontiguousarray(image_HWC).tobytes()


def decode_all(frames: Sequence[bytes]) -> np.ndarray:
    """uint8 (T, H, W, 3) of equally large frames."""
    images = [decode(data) for data in frames]
    if len({image.shape for image in images}) > 1:
        raise ImageError("frames differ in size", found=sorted({image.shape for image in images}))
    return np.stack(images) if images else np.zeros((0, 0, 0, 3), np.uint8)


def glance(data: bytes, side: int) -> np.ndarray:
    """RGB uint8 of one image, about `side` pixels at least (a JPEG is scaled by its decoder): to judge, not to keep."""
    height, width = image_size(data)
    if not data.startswith(JPEG_MAGIC):
        image_HWC = decode(data)
        stride = max(min(height, width) // side, 1)
        return image_HWC[::stride, ::stride]
    return _decode_jpeg(data, min_height=side, min_width=side)


def encode(image_HWC: np.ndarray, quality: int) -> bytes:
    """RGB uint8 (H, W, 3) -> JPEG 4:4:4."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image_HWC), quality=quality, colorsubsampling="444")


def encode_png(image_HWC: np.ndarray) -> bytes:
    """RGB uint8 (H, W, 3) -> PNG."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(image_HWC[..., ::-1]))  # OpenCV takes its input for BGR
    assert done
    return data.tobytes()


def resize(image_HWC: np.ndarray, resolution: int) -> np.ndarray:
    """Stretch to a square: area average when it shrinks, cubic when it grows."""
    shrinks = image_HWC.shape[0] * image_HWC.shape[1] > resolution * resolution
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image_HWC, (resolution, resolution), interpolation=method)


def canonical_frame(
    data: bytes, *, resolution: int, quality: int, hw: Sequence[int], channels: str = "rgb", rotate: int = 0,
    flip: str | None = None,
) -> bytes:  # fmt: skip
    """One source image -> RGB JPEG of `resolution` x `resolution`, upright: turned over (`flip`), then rotated.

    hw: the size the spec promises; another one raises ImageError("shape_mismatch") before anything is decoded.
    A JPEG that already is what we would write keeps its bytes (its whole stream is read all the same: `check_jpeg`).
    """
    size = image_size(data)
    if size != tuple(hw):
        raise ImageError("image size is not the spec's", reason="shape_mismatch", found=size, expected=tuple(hw))
    untouched = channels == "rgb" and rotate == 0 and flip is None and size == (resolution, resolution)
    if untouched and data.startswith(JPEG_MAGIC):
        check_jpeg(data)
        return data
    image_HWC = decode(data)
    if channels == "bgr":
        image_HWC = image_HWC[:, :, ::-1]
    if flip is not None:
        image_HWC = image_HWC[::-1] if flip == "vertical" else image_HWC[:, ::-1]
    if rotate == 180:
        image_HWC = image_HWC[::-1, ::-1]
    if size != (resolution, resolution):
        image_HWC = resize(np.ascontiguousarray(image_HWC), resolution)
    return encode(image_HWC, quality)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    except ValueError as error:
        raise ImageError("not a readable JPEG header", found=str(error)) from None
    if colorspace not in ("YCbCr", "RGB"):
        raise ImageError("not a colour JPEG", found=colorspace, expected="YCbCr or RGB")
    return height, width


def _png_size(data: bytes) -> tuple[int, int]:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ImageError("not a readable PNG header", found=data[:33])
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if (depth, colour) not in ((8, 2), (8, 6)):
        raise ImageError("not an 8-bit colour PNG", found=f"depth {depth}, colour type {colour}", expected="8, 2 or 6")
    return height, width


def _rgb_size(data: bytes) -> tuple[int, int]:
    height, width = struct.unpack_from("<II", data, len(RGB_MAGIC)) if len(data) >= len(RGB_MAGIC) + 8 else (0, 0)
    if len(data) != len(RGB_MAGIC) + 8 + height * width * 3:
        raise ImageError("packed pixels of another size than they claim", found=len(data), expected=[height, width])
    return height, width
