"""msgpack messages with numpy arrays, as openpi's servers and clients exchange them; everything read is hostile.

An array is {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [...]}, a numpy number
{b"__npgeneric__": True, b"data": number, b"dtype": ...}. Only plain numbers: no objects, no fields, no text arrays.
"""

import math
from typing import Any

import msgpack
import numpy as np

from whale.common.errors import BadDataError, BeyondLimitError
from whale.common.limits import DIMENSIONS, MESSAGE_BYTES, MESSAGE_TEXT_BYTES, MESSAGE_VALUES, NESTING

KINDS = "biuf"
# By the first byte of a value. How many bytes say the length of a text or of bytes; of a list or map, its number.
LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
LISTS, MAPS = {0xDC: 2, 0xDD: 4}, {0xDE: 2, 0xDF: 4}
# How many bytes a number has behind its first.
NUMBERS = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}

# Extensions, and a byte that begins nothing. A message holds none; counted wrong, one would hide what follows it.
NOT_OURS = {0xC1, 0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8}


def pack(value: Any) -> bytes:
    """Plain values, lists, dicts and arrays of numbers -> bytes; BadDataError for anything else."""
    try:
        return msgpack.packb(value, default=_packed)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadDataError("cannot be sent", place="message", found=str(error)[:200]) from None


def unpack(payload: bytes, source: str) -> Any:
    """BadDataError for what is no such message, too large, too deep, or holds more than numbers and text."""
    if len(payload) > MESSAGE_BYTES:
        raise BeyondLimitError("message too large", file=source, found=f"{len(payload)} bytes",
                               expected=f"<= {MESSAGE_BYTES} bytes")  # fmt: skip
    _count(payload, source)
    try:
        return msgpack.unpackb(
            payload, object_hook=_unpacked, strict_map_key=False, max_ext_len=0, max_array_len=MESSAGE_VALUES,
            max_map_len=MESSAGE_VALUES, max_str_len=MESSAGE_TEXT_BYTES, max_bin_len=MESSAGE_BYTES,
        )  # fmt: skip
    except BadDataError as error:
        raise BadDataError(error.what, file=source, found=error.found, expected=error.expected) from None
    except (ValueError, TypeError, RecursionError, OverflowError, UnicodeDecodeError, msgpack.UnpackException) as error:
        raise BadDataError("not a message of this protocol", file=source, found=str(error)[:200] or "nothing") from None


def _count(payload: bytes, source: str) -> None:
    """BeyondLimitError for too many values, or too deep, before one is made; a list counts as long as it claims to be.

    msgpack reserves what a list claims: 5 KB of lists in lists reserve 800 MB, and each empty one of a byte takes 56.
    What else is wrong with a message is for msgpack to say.
    """
    place, values, open_lists = 0, 1, [1]  # of each list or map that is open, how many values are still to come
    while open_lists and place < len(payload):
        open_lists[-1] -= 1
        if payload[place] in NOT_OURS:
            raise BadDataError("not a message of this protocol", file=source, place=f"byte {place}",
                               found=f"{payload[place]:#04x}", expected="numbers, text, lists, maps")  # fmt: skip
        inside, place = _inside(payload, place)
        values += inside
        open_lists += [inside] if inside else []
        if values > MESSAGE_VALUES or len(open_lists) > NESTING + 1:
            raise BeyondLimitError(
                "a message of too many values, or too deep", file=source,
                found=f"{values} values so far, {len(open_lists) - 1} levels",
                expected=f"<= {MESSAGE_VALUES} values, {NESTING} levels",
                remedy="send arrays as arrays; a policy server's metadata and answers are short",
            )  # fmt: skip
        while open_lists and not open_lists[-1]:
            open_lists.pop()


def _inside(payload: bytes, place: int) -> tuple[int, int]:
    """How many values are in the value at `place`, and where the next one begins."""
    first, place = payload[place], place + 1
    if size := LENGTHS.get(first):
        return 0, place + size + int.from_bytes(payload[place : place + size], "big")
    if size := LISTS.get(first) or MAPS.get(first):
        count = int.from_bytes(payload[place : place + size], "big")
        return count * 2 if first in MAPS else count, place + size
    if 0x80 <= first < 0xA0:
        return (first & 0x0F) * (2 if first < 0x90 else 1), place
    return 0, place + (first & 0x1F if 0xA0 <= first < 0xC0 else NUMBERS.get(first, 0))


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
    if not isinstance(shape, list | tuple) or len(shape) > DIMENSIONS:
        raise BadDataError("an array's shape is none", found=str(shape)[:80])
    if not all(isinstance(size, int) and 0 <= size <= MESSAGE_BYTES for size in shape):
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
