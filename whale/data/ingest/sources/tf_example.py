"""tf.Example without protobuf or TensorFlow: a bounded parser of the few wire types it uses.

Example { Features features = 1 }, Features { map<string, Feature> feature = 1 }, Feature { oneof: BytesList = 1,
FloatList = 2, Int64List = 3 }, each list { repeated value = 1 }, packed or not. Unknown fields are skipped.
"""

from collections.abc import Callable, Iterator

import numpy as np

from whale.common.limits import RECORD_FIELDS

Feature = list[bytes] | np.ndarray
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class ExampleError(ValueError):
    """The bytes are not a tf.Example."""


def parse_example(payload: bytes) -> dict[str, Feature]:
    """Feature name -> list of bytes, float32 array or int64 array; an unset feature is an empty list of bytes."""
    data = memoryview(payload)
    features: dict[str, Feature] = {}
    for number, wire, start, stop in _fields(data, 0, len(data)):
        if (number, wire) == (1, LENGTH):
            for entry, entry_wire, entry_start, entry_stop in _fields(data, start, stop):
                if (entry, entry_wire) == (1, LENGTH):
                    name, feature = _map_entry(data, entry_start, entry_stop)
                    features[name] = feature
    return features


def _map_entry(data: memoryview, start: int, stop: int) -> tuple[str, Feature]:
    name, feature = "", (stop, stop)
    for number, wire, a, b in _fields(data, start, stop):
        if (number, wire) == (1, LENGTH):
            try:
                name = str(data[a:b], "utf-8")
            except UnicodeDecodeError:
                raise ExampleError(f"feature name at byte {a} is not UTF-8") from None
        elif (number, wire) == (2, LENGTH):
            feature = (a, b)
    return name, _feature(data, *feature)


def _feature(data: memoryview, start: int, stop: int) -> Feature:
    parsers: dict[int, Callable[[memoryview, int, int], Feature]] = {1: _bytes_list, 2: _float_list, 3: _int64_list}
    feature: Feature = []
    for number, wire, a, b in _fields(data, start, stop):
        if wire == LENGTH and number in parsers:
            feature = parsers[number](data, a, b)
    return feature


def _bytes_list(data: memoryview, start: int, stop: int) -> list[bytes]:
    return [bytes(data[a:b]) for number, wire, a, b in _fields(data, start, stop) if (number, wire) == (1, LENGTH)]


def _float_list(data: memoryview, start: int, stop: int) -> np.ndarray:
    pieces = []
    for number, wire, a, b in _fields(data, start, stop):
        if number != 1 or wire not in (LENGTH, FIXED32):
            continue
        if (b - a) % 4:
            raise ExampleError(f"packed floats at byte {a} take {b - a} bytes, not a multiple of 4")
        pieces.append(np.frombuffer(data[a:b], "<f4"))
    return _joined(pieces, np.float32)


def _int64_list(data: memoryview, start: int, stop: int) -> np.ndarray:
    pieces = []
    for number, wire, a, b in _fields(data, start, stop):
        if number == 1 and wire in (LENGTH, VARINT):
            pieces.append(_varints(np.frombuffer(data[a:b], np.uint8), a))
    return _joined(pieces, np.int64)


def _joined(pieces: list[np.ndarray], dtype: type) -> np.ndarray:
    if len(pieces) == 1:
        return pieces[0].astype(dtype, copy=False)
    return np.concatenate(pieces).astype(dtype, copy=False) if pieces else np.zeros(0, dtype)


def _varints(raw: np.ndarray, offset: int) -> np.ndarray:
    """All varints of a packed list at once; two's complement, so a negative number takes 10 bytes."""
    if not len(raw):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero(raw < 0x80)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise ExampleError(f"varint list at byte {offset} ends inside a number")
    if len(ends) == len(raw):
        return raw.astype(np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise ExampleError(f"varint list at byte {offset} holds a number of {lengths.max()} bytes")
    shift = 7 * (np.arange(len(raw)) - np.repeat(starts, lengths))
    parts = (raw & 0x7F).astype(np.uint64) << shift.astype(np.uint64)
    return np.add.reduceat(parts, starts).view(np.int64)


def _fields(data: memoryview, position: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, stop) of every field; a length beyond `stop` raises before any copy."""
    left = RECORD_FIELDS
    while position < stop:
        tag, position = data[position], position + 1
        left -= 1
        if not left:
            raise ExampleError(f"more than {RECORD_FIELDS} fields in a message")
        if tag >= 0x80:  # rare; a call for each of these bytes would be a fifth of the parsing
            tag, position = _varint(data, position - 1, stop)
        number, wire, start = tag >> 3, tag & 7, position
        if wire == LENGTH:
            size, start = _varint(data, position, stop)
            position = start + size
        elif wire == VARINT:
            _, position = _varint(data, position, stop)
        elif wire in (FIXED32, FIXED64):
            position += 4 if wire == FIXED32 else 8
        else:
            raise ExampleError(f"wire type {wire} at byte {start}")
        if position > stop:
            raise ExampleError(f"field {number} at byte {start} reaches {position - stop} bytes beyond its message")
        yield number, wire, start, position


def _varint(data: memoryview, position: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while position < stop and shift < 70:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise ExampleError(f"varint at byte {position} does not end")
