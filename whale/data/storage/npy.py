"""numpy's own files (.npy, .npz) of others: no pickle, and nothing is reserved that the file does not hold.

numpy believes a header: `(1000000000000,)` is reserved before one byte is read. Here shape and size must agree first.
"""

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np

from whale.common.boundary import reading
from whale.common.errors import BadDataError, BeyondLimitError
from whale.common.limits import ARCHIVE_BYTES, ARRAYS, DIMENSIONS, DIRECTORY_BYTES, EPISODE_STEPS, MIB, RATIO
from whale.common.printable import brief

HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(stream: IO[bytes], size: int, file: str | Path, place: str | None = None) -> np.ndarray:
    """One array of exactly `size` bytes with its header; BadDataError for anything else."""
    with reading(file, "not a plain npy array", place=place):
        version = np.lib.format.read_magic(stream)
        if version not in HEADERS:
            raise BadDataError("npy of an unknown version", file=file, place=place, found=version, expected="1.0, 2.0")
        shape, is_fortran, dtype = HEADERS[version](stream)
        is_plain = not dtype.hasobject and dtype.names is None and dtype.subdtype is None and dtype.itemsize
        is_small = len(shape) <= DIMENSIONS and all(0 <= each <= max(size, EPISODE_STEPS) for each in shape)
        if not is_plain or not is_small or math.prod(shape) * dtype.itemsize != size - stream.tell():
            raise BadDataError(
                "not a plain array", file=file, place=place, found=f"{dtype} {shape}",
                expected=f"numbers or text of {size - stream.tell()} bytes in all",
            )  # fmt: skip
        array = np.empty(shape, dtype, order="F" if is_fortran else "C")
        target = memoryview(array.reshape(-1, order="A").view(np.uint8).data) if array.size else memoryview(b"")
        _fill(stream, target)
        return array


def _fill(stream: IO[bytes], target: memoryview) -> None:
    position = 0
    while position < len(target):
        data = stream.read(min(len(target) - position, MIB))
        if not data:
            raise EOFError(f"{position} of {len(target)} bytes")
        target[position : position + len(data)] = data
        position += len(data)
    if stream.read(1):
        raise ValueError("bytes behind the array")


def read_npz(
    path: Path, names: Collection[str] | None = None, refused: dict[str, str] | None = None,
    optional: Collection[str] = (),
) -> dict[str, np.ndarray]:  # fmt: skip
    """All arrays of one archive (or those named, which must be there); BadDataError for pickles, bombs, damage.

    optional: named, too, if they are there. refused: takes up why a member cannot be read, which then is no error; a
    bomb is one in any case.
    """
    with reading(path, "not a file of arrays"):
        with open(path, "rb") as stream:
            _check_directory(stream, path)
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            size, packed = (sum(getattr(m, n) for m in members.values()) for n in ("file_size", "compress_size"))
            is_small = len(archive.infolist()) <= ARRAYS and size <= ARCHIVE_BYTES and size <= RATIO * max(packed, 1)
            if not is_small:
                raise BeyondLimitError(
                    "an archive that unpacks to too much", file=path,
                    found=f"{len(members)} arrays, {packed} -> {size} bytes",
                    expected=f"<= {ARRAYS} arrays, {ARCHIVE_BYTES} bytes, {RATIO} times",
                )  # fmt: skip
            missing = sorted({*(names or ())} - members.keys())
            if missing:
                raise BadDataError("arrays are missing", file=path, found=sorted(members), expected=missing)
            arrays = {}
            for name in sorted({*(names or members), *(members.keys() & set(optional))}):
                try:
                    arrays[name] = _member(archive, members[name], path)
                except BadDataError as error:
                    if refused is None:
                        raise
                    refused[name] = f"{error.what}: {brief(error.found)}"
            return arrays


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    with reading(path, "a member that cannot be read", place=member.filename), archive.open(member) as stream:
        return read_npy(stream, member.file_size, path, member.filename)


def _check_directory(stream: IO[bytes], path: Path) -> None:
    """zipfile reads all of the list at once, and makes an object of each 46 bytes."""
    end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    if not end:
        raise zipfile.BadZipFile("no end of an archive")
    if end[zipfile._ECD_SIZE] > DIRECTORY_BYTES:  # type: ignore[attr-defined]
        found = f"{end[zipfile._ECD_SIZE]} bytes"  # type: ignore[attr-defined]
        raise BeyondLimitError(
            "an archive of too many members", file=path, found=found, expected=f"<= {DIRECTORY_BYTES}"
        )
