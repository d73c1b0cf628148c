"""Why an archive was refused follows from the kind of its error, never from the words in it."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from whale.common.errors import BadDataError, BeyondLimitError
from whale.common.limits import ARRAYS
from whale.data.ingest.sources.npz import load_arrays
from whale.data.spec.episode import EpisodeError
from whale.data.storage.npy import read_npz


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def many_arrays(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(ARRAYS + 1):
            archive.writestr(f"{number}.npy", npy(np.zeros(1)))


def many_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}{'x' * 60_000}.npy", b"")


def much_inside(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("action.npy", npy(np.zeros(40_000_000, np.uint8)))


@pytest.mark.parametrize("make", [many_arrays, many_members, much_inside])
def test_what_asks_for_too_much_is_unsafe_by_its_kind(tmp_path, make):
    path = tmp_path / "x.npz"
    make(path)
    with pytest.raises(BeyondLimitError):
        read_npz(path)
    with pytest.raises(EpisodeError) as refused:
        load_arrays(path)
    assert refused.value.reason == "unsafe"


def test_damage_is_no_bomb_whatever_it_is_called(tmp_path):
    path = tmp_path / "too much, too many.npz"
    path.write_bytes(b"too many, too much")
    with pytest.raises(BadDataError) as found:
        read_npz(path)
    assert not isinstance(found.value, BeyondLimitError)
    with pytest.raises(EpisodeError) as refused:
        load_arrays(path)
    assert refused.value.reason == "decode_error"
