import gzip
import struct

import pytest
from rlds_bytes import frame

from whale.data.ingest.sources.tfrecord import TFRecordError, TFRecordFile, masked_crc32c

PAYLOADS = [b"first", b"", b"third" * 1000]


def read(path):
    with TFRecordFile(path) as records:
        return [record.payload for record in records]


def write(tmp_path, data):
    path = tmp_path / "x.tfrecord-00000-of-00001"
    path.write_bytes(data)
    return path


def whole():
    return b"".join(map(frame, PAYLOADS))


def test_the_checksum_is_masked_crc32c_with_the_published_check_value():
    crc = 0xE3069283  # crc32c("123456789")
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def test_records_come_back_in_order(tmp_path):
    assert read(write(tmp_path, whole())) == PAYLOADS


@pytest.mark.parametrize("cut", [1, 5, 11, 13, len(frame(b"first")) + 3, len(whole()) - 1])
def test_a_cut_inside_a_record_is_truncated_with_its_offset(tmp_path, cut):
    with pytest.raises(TFRecordError) as caught:
        read(write(tmp_path, whole()[:cut]))
    assert caught.value.reason == "truncated"
    assert f"byte {caught.value.offset}" in str(caught.value)
    assert caught.value.offset in (0, len(frame(b"first")), len(frame(b"first")) + 16)


def test_a_flipped_payload_byte_is_bad_crc_and_the_next_record_can_still_be_read(tmp_path):
    data = bytearray(whole())
    data[13] ^= 1
    with TFRecordFile(write(tmp_path, bytes(data))) as records:
        with pytest.raises(TFRecordError) as caught:
            next(records)
        assert (caught.value.reason, caught.value.skippable) == ("bad_crc", True)
        assert next(records).payload == b""


def test_a_flipped_length_byte_is_bad_crc_and_ends_the_file(tmp_path):
    data = bytearray(whole())
    data[0] ^= 1
    with pytest.raises(TFRecordError) as caught:
        read(write(tmp_path, bytes(data)))
    assert (caught.value.reason, caught.value.skippable) == ("bad_crc", False)


@pytest.mark.parametrize("length, reason", [(2**60, "not_tfrecord"), (2**20, "truncated")])
def test_a_length_beyond_the_file_is_refused_before_memory_is_taken(tmp_path, length, reason):
    header = struct.pack("<Q", length)
    data = header + struct.pack("<I", masked_crc32c(header)) + bytes(100)
    with pytest.raises(TFRecordError) as caught:
        read(write(tmp_path, data))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "data, says",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3474742\n", "LFS"),
        (b"<!DOCTYPE html><html>not found</html>" * 3, "HTML"),
        (gzip.compress(whole(), mtime=0), "gzip"),
        (b"", "empty"),
    ],
)
def test_what_is_no_tfrecord_is_called_by_its_name(tmp_path, data, says):
    with pytest.raises(TFRecordError, match=says):
        read(write(tmp_path, data))
