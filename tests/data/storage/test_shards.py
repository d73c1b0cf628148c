import tarfile

import numpy as np
import pytest
from shard_faults import FAULTS, first_tar, flip, flip_a_header, read_everything
from tiny_shards import write_tiny_shards

from whale.common.errors import BadDataError, MissingInputError
from whale.data.storage.shards import ShardSet, TarWriter, array_bytes, parse_array
from whale.data.storage.tar import header, read_members

KEY = "tiny-train-0000000"


@pytest.fixture
def shards(tmp_path):
    return write_tiny_shards(tmp_path / "tiny", "tiny", [5, 7, 6, 4, 9], per_shard=3)


def test_a_window_of_frames_is_the_slice_of_all_frames(shards):
    shard_set = ShardSet.open(shards)
    row = shard_set.episodes("train")[1]
    whole = shard_set.read_frames(row, 0, row.num_steps)
    assert whole.shape == (7, 16, 16, 3) and whole.dtype == np.uint8
    np.testing.assert_array_equal(shard_set.read_frames(row, 2, 5), whole[2:5])


def test_frames_beyond_the_episode_and_unknown_cameras_and_splits_are_refused(shards):
    shard_set = ShardSet.open(shards)
    row = shard_set.episodes("train")[0]
    for call in (
        lambda: shard_set.read_frames(row, 3, 6),
        lambda: shard_set.read_frames(row, -1, 2),
        lambda: shard_set.read_frames(row, 0, 2, role="wrist"),
        lambda: shard_set.episodes("test"),
    ):
        with pytest.raises(BadDataError):
            call()


def test_equal_input_gives_equal_bytes(tmp_path):
    first, second = (write_tiny_shards(tmp_path / name, "tiny", [5, 7]) for name in ("a", "b"))
    for path in sorted(path for path in first.rglob("*") if path.is_file()):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


def test_the_bytes_are_those_of_webdatasets_writer_without_its_clock(tmp_path):
    wds = pytest.importorskip("webdataset")
    members = {"action.npy": array_bytes(np.zeros((3, 7), np.float32)), "primary.000000.jpg": b"x" * 700}
    with TarWriter(tmp_path, "ours.tar") as tar:
        tar.write_sample(KEY, members)
    with open(tmp_path / "theirs.tar", "wb") as stream:
        theirs = wds.TarWriter(stream, user="", group="", mode=0o644, mtime=0, encoder=False)
        theirs.write({"__key__": KEY, **members})
        theirs.close()
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()


@pytest.mark.parametrize("name", [f"{KEY}.action.npy", "x" * 99 + "y", "a.jpg"])
@pytest.mark.parametrize("size", [0, 1, 511, 123_456_789])
def test_a_header_is_the_one_that_tarfile_writes(name, size):
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    assert header(name, size) == info.tobuf(tarfile.USTAR_FORMAT, "ascii")


def test_a_name_too_long_for_ustar_is_refused():
    with pytest.raises(BadDataError, match="too long"):
        header("x" * 101, 0)


def test_stock_webdataset_reads_every_episode(shards):
    wds = pytest.importorskip("webdataset")
    urls = sorted(str(path) for path in shards.rglob("*.tar"))
    samples = list(wds.WebDataset(urls, shardshuffle=False, empty_check=False))
    shard_set = ShardSet.open(shards)
    assert [sample["__key__"] for sample in samples] == [row.key for row in shard_set.episodes("train")]
    for sample, row in zip(samples, shard_set.episodes("train"), strict=True):
        action = parse_array(sample["action.npy"], shards, row.key)
        np.testing.assert_array_equal(action, shard_set.read_arrays(row)["action"])
        assert [sample[f"primary.{t:06d}.jpg"] for t in range(row.num_steps)] == shard_set.read_encoded(
            row, 0, row.num_steps
        )


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), TarWriter(tmp_path, "train/x.tar") as tar:
        tar.write_sample(KEY, {"action.npy": b"x"})
        raise RuntimeError
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("suffix", ["pkl", "pyd", "pth", "npy.gz", "PKL", "../x.npy"])
def test_a_writer_refuses_other_member_names(tmp_path, suffix):
    with pytest.raises(BadDataError, match="member name"), TarWriter(tmp_path, "x.tar") as tar:
        tar.write_sample(KEY, {suffix: b""})


def test_pickled_arrays_are_refused(tmp_path):
    payload = tmp_path / "x.npy"
    np.save(payload, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadDataError, match="plain array"):
        parse_array(payload.read_bytes(), payload, "x")


# The right samples, or an error that names the file; never silence.


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("verify", ["size", "always"])
def test_a_fault_ends_in_the_right_samples_or_in_an_error_that_names_the_file(shards, fault, verify):
    right = read_everything(shards)
    fault(shards)
    try:
        found = read_everything(shards, verify)
    except (BadDataError, MissingInputError) as error:
        assert str(shards) in str(error) or "tiny-train" in str(error)
    else:
        assert found == right
        assert fault is flip_a_header and verify == "size"  # headers are never parsed: payloads are read by position


@pytest.mark.parametrize("file", ["episodes.parquet", "statistics.json", "contract.json"])
def test_a_flipped_byte_beside_the_shards_is_found_at_opening(shards, file):
    flip(shards / file, 10)
    with pytest.raises(BadDataError, match="changed"):
        ShardSet.open(shards)


def test_a_changed_member_names_file_offset_and_both_checksums(shards):
    row = ShardSet.open(shards).episodes("train")[0]
    member = row.frame_members("primary", 0, 1)[0]
    flip(first_tar(shards), member.offset)
    with pytest.raises(BadDataError) as caught:
        read_members(first_tar(shards), [member])
    message = str(caught.value)
    assert all(text in message for text in (str(first_tar(shards)), f"byte {member.offset}", f"{member.crc32c:08x}"))
