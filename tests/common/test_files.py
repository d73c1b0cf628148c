"""A file has its old bytes or its new bytes; its temporary name says whose it is."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from whale.common.errors import CannotWriteError
from whale.common.files import (
    atomic_file,
    is_abandoned,
    md5_of_file,
    sha256_of_file,
    temporary_name_of,
    temporary_path,
    write_atomically,
    write_secret_once,
)


def test_a_write_that_fails_leaves_the_old_bytes_and_no_temporary(tmp_path):
    path = tmp_path / "x.json"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and [each.name for each in tmp_path.iterdir()] == ["x.json"]


def test_only_what_cannot_be_made_anew_waits_for_the_disk_and_both_are_whole(tmp_path, monkeypatch):
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    write_atomically(tmp_path / "cache.json", b"old", lasts=False)
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "cache.json", lasts=False) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert not waited and (tmp_path / "cache.json").read_bytes() == b"old"
    write_atomically(tmp_path / "record.json", b"new")
    assert len(waited) == 2  # the file and its folder


def test_what_the_system_refuses_names_the_file_and_a_remedy(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotWriteError, match="a file lies where a folder should be") as found:
        write_atomically(tmp_path / "file" / "x", b"")
    assert found.value.file == tmp_path / "file" / "x"
    with pytest.raises(CannotWriteError, match="choose a shorter name"):
        write_atomically(tmp_path / ("x" * 250), b"")


def test_the_first_writer_of_a_secret_wins_and_only_the_owner_reads_it(tmp_path):
    path = tmp_path / "keys" / "key"
    writers = [threading.Thread(target=write_secret_once, args=(path, b"%d" % number * 9)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    first = path.read_bytes()
    assert len(set(first)) == 1 and len(first) == 9
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    write_secret_once(path, b"later")
    assert path.read_bytes() == first and [each.name for each in path.parent.iterdir()] == ["key"]


def test_a_temporary_name_tells_its_file_and_whether_its_writer_is_gone(tmp_path):
    script = "from pathlib import Path; from whale.common.files import temporary_path as at; print(at(Path('a/x.tar')))"
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    theirs = tmp_path / made.rpartition("/")[2]
    assert temporary_name_of(theirs) == "x.tar" and is_abandoned(theirs)
    living = temporary_path(tmp_path / "x.tar", "old").name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
    assert temporary_name_of(tmp_path / living) == "x.tar" and not is_abandoned(tmp_path / living)
    assert temporary_name_of(tmp_path / "x.tar") is None and not is_abandoned(tmp_path / ".hidden")


def test_digests_are_those_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-4, example B.1; RFC 1321, A.5
    assert sha256_of_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert md5_of_file(tmp_path / "abc") == "900150983cd24fb0d6963f7d28e17f72"
