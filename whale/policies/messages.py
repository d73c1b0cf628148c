"""msgpack messages with numpy arrays, as openpi's servers and clients exchange them; everything read is hostile.

An array is {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [...]}, a numpy number
{b"__npgeneric__": True, b"data": number, b"dtype": ...}. Only plain numbers: no objects, no fields, no text arrays.
"""

import math
from typing import Any

import msgpack
import numpy as np

from whale.common.errors import BadDataError

MAX_MESSAGE_BYTES = 64 * 2**20
MAX_ITEMS, MAX_DIMENSIONS = 100_000, 8
KINDS = "biuf"


def pack(value: Any) -> bytes:
    """Plain values, lists, dicts and arrays of numbers -> bytes; BadDataError for anything else."""
    try:
        return msgpack.packb(value, default=_packed)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadDataError("cannot be sent", place="message", found=str(error)[:200]) from None


def unpack(payload: bytes, source: str) -> Any:
    """BadDataError for what is no such message, too large, too deep, or holds more than numbers and text."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise BadDataError("message too large", file=source, found=len(payload), expected=f"<= {MAX_MESSAGE_BYTES}")
    try:
        return msgpack.unpackb(
            payload, object_hook=_unpacked, strict_map_key=False, max_ext_len=0, max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS, max_str_len=2**20, max_bin_len=MAX_MESSAGE_BYTES,
        )  # fmt: skip
    except BadDataError as error:
        raise BadDataError(error.what, file=source, found=error.found, expected=error.expected) from None
    except (ValueError, TypeError, RecursionError, OverflowError, UnicodeDecodeError, msgpack.UnpackException) as error:
        raise BadDataError("not a message of this protocol", file=source, found=str(error)[:200] or "nothing") from None


def _packed(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in KINDS:
        raise TypeError(f"an array of {value.dtype}")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__}")


def _unpacked(found: dict[Any, Any]) -> Any:
    if b"__ndarray__" in found:
        return _array(found.get(b"dtype"), found.get(b"shape"), found.get(b"data"))
    if b"__npgeneric__" in found:
        value = found.get(b"data")
        if not isinstance(value, int | float | bool):
            raise BadDataError("not a number", found=type(value).__name__)
        return _dtype(found.get(b"dtype")).type(value)
    return found


def _array(dtype: Any, shape: Any, data: Any) -> np.ndarray:
    kind = _dtype(dtype)
    if not isinstance(shape, list | tuple) or len(shape) > MAX_DIMENSIONS:
        raise BadDataError("an array's shape is none", found=str(shape)[:80])
    if not all(isinstance(size, int) and 0 <= size <= MAX_MESSAGE_BYTES for size in shape):
        raise BadDataError("an array's shape is none", found=str(shape)[:80])
    expected = math.prod(shape) * kind.itemsize
    if not isinstance(data, bytes) or len(data) != expected:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise BadDataError("an array of another size than it claims", found=found, expected=f"{expected} bytes")
    return np.frombuffer(data, kind).reshape(shape)


def _dtype(text: Any) -> np.dtype[Any]:
    """A plain number type; text is looked at before numpy parses it."""
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    if not isinstance(text, str) or len(text) > 4 or text[:1] not in "<>|=" or text[1:2] not in KINDS:
        raise BadDataError("only arrays of plain numbers", found=str(text)[:40], expected="e.g. <f4 or |u1")
    try:
        return np.dtype(text)
    except TypeError:
        raise BadDataError("only arrays of plain numbers", found=text, expected="e.g. <f4 or |u1") from None
