"""TFRecord framing: both checksums, lengths bounded by the file before anything is allocated.

Per record: uint64 length | uint32 masked CRC-32C of those 8 bytes | payload | uint32 masked CRC-32C of the payload,
little-endian. A cut at a record boundary is invisible here: the caller compares counts with dataset_info.json.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from whale.common.errors import BadDataError
from whale.common.impostors import impostor
from whale.common.limits import RECORD_BYTES

HEADER, FOOTER = struct.Struct("<QI"), struct.Struct("<I")
FRAMING_BYTES = 16
MASK_DELTA = 0xA282EAD8


class TFRecordError(BadDataError):
    """A damaged file. `reason` is bad_crc, truncated, not_tfrecord or empty; `skippable`: the next record is known."""

    def __init__(self, what: str, *, reason: str = "not_tfrecord", offset: int = 0, skippable: bool = False, **fields):
        super().__init__(what, **fields)
        self.reason, self.offset, self.skippable = reason, offset, skippable


@dataclass(frozen=True)
class Record:
    offset: int
    payload: bytes


class TFRecordFile:
    """Iterates the records of one file. After a payload with a wrong CRC the iteration may continue (`skippable`).

    `sha256()` after the last record is the digest of the whole file, from the same single read.
    """

    def __init__(self, path: Path):
        self.path, self._size = Path(path), Path(path).stat().st_size
        self._position, self._sha256 = 0, hashlib.sha256()
        self._stream: BinaryIO = open(path, "rb")  # noqa: SIM115  closed by __exit__

    def __enter__(self) -> "TFRecordFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        offset = self._position
        if offset == self._size:
            if not self._size:
                raise self._error("an empty file", "empty", 0)
            raise StopIteration
        length = self._length(offset)
        payload, footer = self._read(length), self._read(FOOTER.size)
        if FOOTER.unpack(footer)[0] != masked_crc32c(payload):
            raise self._error("a payload's CRC-32C is wrong", "bad_crc", offset, skippable=True)
        return Record(offset, payload)

    def sha256(self) -> str:
        """Hex digest of the whole file; reads on where the iteration stopped."""
        while chunk := self._stream.read(2**20):
            self._sha256.update(chunk)
        return self._sha256.hexdigest()

    def _length(self, offset: int) -> int:
        left = self._size - offset
        if left < FRAMING_BYTES:
            self._refuse_impostor(offset, self._stream.peek(64)[:64])  # type: ignore[attr-defined]
            raise self._error("the file ends inside a record's header", "truncated", offset, found=left, expected=16)
        header = self._read(HEADER.size)
        length, crc = HEADER.unpack(header)
        if crc != masked_crc32c(header[:8]):
            self._refuse_impostor(offset, header + self._stream.peek(64)[:64])  # type: ignore[attr-defined]
            raise self._error("a record length's CRC-32C is wrong", "bad_crc", offset, found=f"length {length}")
        if length > RECORD_BYTES:
            expected = f"<= {RECORD_BYTES} bytes"
            raise self._error("impossible record length", "not_tfrecord", offset, found=length, expected=expected)
        if length > left - FRAMING_BYTES:
            found = f"{left - FRAMING_BYTES} bytes left"
            raise self._error("the file ends inside a record", "truncated", offset, found=found, expected=length)
        return length

    def _refuse_impostor(self, offset: int, head: bytes) -> None:
        if offset == 0 and (told := impostor(head)) is not None:
            what = f"not a TFRecord file but {told[0]}"
            raise self._error(what, "not_tfrecord", 0, found=head[:24], remedy=told[1])

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:  # the file shrank while it was read
            raise self._error("the file ends inside a record", "truncated", self._position)
        self._position += size
        self._sha256.update(data)
        return data

    def _error(self, what: str, reason: str, offset: int, skippable: bool = False, **fields) -> TFRecordError:
        fields.setdefault("remedy", "download the file again")
        return TFRecordError(
            what, reason=reason, offset=offset, skippable=skippable, file=self.path, place=f"byte {offset}", **fields
        )


def masked_crc32c(data: bytes) -> int:
    """The CRC as TFRecord stores it: rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF
