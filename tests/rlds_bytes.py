"""tf.Example and TFRecord as bytes, without TensorFlow: for fixtures. Readers are in whale/data/ingest/sources."""

import struct

from whale.data.ingest.sources.tf_example import LENGTH, Feature
from whale.data.ingest.sources.tfrecord import FOOTER, masked_crc32c


def frame(payload: bytes) -> bytes:
    """One record as it stands in a file."""
    length = struct.pack("<Q", len(payload))
    return length + FOOTER.pack(masked_crc32c(length)) + payload + FOOTER.pack(masked_crc32c(payload))


def encode_example(features: dict[str, Feature]) -> bytes:
    """The inverse of `parse_example`, keys sorted: equal features give equal bytes."""
    entries = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _encode_feature(features[name]))) for name in sorted(features)
    )
    return _field(1, entries)


def _encode_feature(feature: Feature) -> bytes:
    if isinstance(feature, list):
        return _field(1, b"".join(_field(1, value) for value in feature))
    if feature.dtype.kind == "f":
        return _field(2, _field(1, feature.astype("<f4").tobytes()))
    return _field(3, _field(1, b"".join(_encode_varint(int(value)) for value in feature)))


def _field(number: int, data: bytes) -> bytes:
    return _encode_varint(number << 3 | LENGTH) + _encode_varint(len(data)) + data


def _encode_varint(value: int) -> bytes:
    value &= struct.unpack("<Q", b"\xff" * 8)[0]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
