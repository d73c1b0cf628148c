"""Recorded starts: what comes back is what was written, also the frames that followed."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
import tiny_world

from whale.common.errors import BadDataError
from whale.worlds.starts import FOLLOWING, read_starts, write_starts


def rewritten(path, **changes):
    """The same file with some arrays changed."""
    with np.load(path) as found:
        arrays = dict(found) | changes
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("given", [1, 3])
@pytest.mark.parametrize("seen", [False, True])
def test_starts_come_back_as_they_were_and_equal_ones_give_equal_bytes(tmp_path, given, seen):
    written = tiny_world.starts(given=given, seen=seen)
    for name in ("a.npz", "b.npz"):
        write_starts(tmp_path / name, written)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    for found, start in zip(read_starts(tmp_path / "a.npz", 16, 7), written, strict=True):
        assert (found.key, found.instruction) == (start.key, start.instruction)
        assert np.array_equal(found.frames, start.frames) and np.array_equal(found.actions, start.actions)
        assert (found.following is None) != seen
        if seen:
            assert np.array_equal(found.following, start.following)
            assert len(found.following) == len(found.actions) - given + 1


def test_what_stands_still_takes_no_room(tmp_path):
    moving = tiny_world.starts(seen=True)
    still = [replace(each, following=each.frames[-1:].repeat(len(each.following), axis=0)) for each in moving]
    for name, starts in (("none.npz", tiny_world.starts()), ("still.npz", still), ("moving.npz", moving)):
        write_starts(tmp_path / name, starts)
    none, still_size, moving_size = ((tmp_path / f"{name}.npz").stat().st_size for name in ("none", "still", "moving"))
    assert still_size - none < (moving_size - none) / 50


@pytest.mark.parametrize(
    "changed", [np.zeros((6, 17, 16, 16, 3), np.int16), np.zeros((6, 16, 16, 16, 3), np.uint8), np.zeros(0, np.uint8),
                np.zeros((5, 17, 16, 16, 3), np.uint8), np.zeros((6, 17, 16, 16, 4), np.uint8)]
)  # fmt: skip
def test_frames_that_do_not_fit_are_refused_and_named(tmp_path, changed):
    write_starts(tmp_path / "a.npz", tiny_world.starts(seen=True))
    with pytest.raises(BadDataError, match=FOLLOWING):
        read_starts(rewritten(tmp_path / "a.npz", **{FOLLOWING: changed}), 16, 7)


def test_frames_that_unpack_to_more_than_they_may_are_refused_before(tmp_path, monkeypatch):
    monkeypatch.setattr("whale.data.storage.npy.ARCHIVE_BYTES", 50_000)
    write_starts(tmp_path / "a.npz", tiny_world.starts(seen=True))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.getinfo(f"{FOLLOWING}.npy").file_size > 50_000
    with pytest.raises(BadDataError, match="unpacks to too much"):
        read_starts(tmp_path / "a.npz", 16, 7)
