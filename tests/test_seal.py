"""A sealed folder proves every byte; an input has one digest, whatever its form."""

import os
from pathlib import Path

import pytest

from whale.common.errors import BadDataError, MismatchError, MissingInputError
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.lineage.file_digests import FileDigests
from whale.lineage.inputs import prove_input
from whale.seal import seal, verify_sealed


@pytest.fixture
def sealed(tmp_path):
    return make_sealed(tmp_path / "set")


def named(path: Path, sha256) -> str:
    return prove_input(path, sha256).digest


def make_sealed(directory):
    (directory / "train").mkdir(parents=True)
    (directory / "train" / "a.tar").write_bytes(b"a" * 100)
    (directory / "train" / "b.tar").write_bytes(b"b" * 50)
    (directory / "manifest.txt").write_bytes(b"two shards")
    seal(directory, sha256_of_file)
    return directory


def test_a_sealed_folder_verifies_and_its_digest_is_that_of_the_manifest(sealed):
    assert len(verify_sealed(sealed, sha256_of_file)) == 3
    assert named(sealed, sha256_of_file) == sha256_of_file(sealed / MANIFEST_NAME)


def test_equal_files_give_equal_digests_wherever_they_lie(sealed, tmp_path):
    copy = make_sealed(tmp_path / "elsewhere" / "copy")
    assert named(copy, sha256_of_file) == named(sealed, sha256_of_file)


@pytest.mark.parametrize("position", [0, 37, 99])
def test_one_flipped_byte_is_named(sealed, position):
    path = sealed / "train" / "a.tar"
    payload = bytearray(path.read_bytes())
    payload[position] ^= 1
    path.write_bytes(payload)
    with pytest.raises(MismatchError, match=r"a\.tar"):
        named(sealed, sha256_of_file)


def test_a_cut_an_added_and_a_missing_file_are_named(sealed):
    (sealed / "train" / "a.tar").write_bytes(b"a" * 99)
    with pytest.raises(MismatchError, match=r"a\.tar"):
        named(sealed, sha256_of_file)
    (sealed / "train" / "a.tar").write_bytes(b"a" * 100)
    (sealed / "train" / "c.tar").write_bytes(b"c")
    with pytest.raises(MismatchError, match=r"c\.tar"):
        named(sealed, sha256_of_file)
    (sealed / "train" / "c.tar").unlink()
    (sealed / "train" / "b.tar").unlink()
    with pytest.raises(MissingInputError, match=r"b\.tar"):
        named(sealed, sha256_of_file)


def test_an_edit_that_keeps_size_and_mtime_is_found_through_the_cache(sealed, tmp_path):
    digests, path = FileDigests(tmp_path / "cache.json"), sealed / "train" / "a.tar"
    named(sealed, digests)
    before = path.stat()
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(MismatchError, match=r"a\.tar"):
        named(sealed, digests)


def test_the_cache_survives_the_process_and_hashes_nothing_twice(sealed, tmp_path):
    first = FileDigests(tmp_path / "cache.json")
    named(sealed, first)
    first.save()
    second = FileDigests(tmp_path / "cache.json")
    named(sealed, second)
    assert (len(first.hashed), len(second.hashed)) == (4, 0)
    paranoid = FileDigests(tmp_path / "cache.json", paranoid=True)
    named(sealed, paranoid)
    assert len(paranoid.hashed) == 4


def test_files_that_nobody_opens_are_proven_by_their_size_alone(sealed, tmp_path):
    """The name stays that of the manifests."""
    for place in (sealed, sealed / "train", tmp_path):
        digests = FileDigests()
        assert prove_input(place, digests, ".tar").digest == named(place, sha256_of_file)
        assert not [name for name in digests.hashed if name.endswith(".tar")]
    size = (sealed / "train" / "b.tar").stat().st_size
    (sealed / "train" / "b.tar").write_bytes(b"x" * size)
    prove_input(sealed, sha256_of_file, ".tar")
    with pytest.raises(MismatchError, match=r"b\.tar"):
        named(sealed, sha256_of_file)
    (sealed / "train" / "b.tar").write_bytes(b"x" * (size + 1))
    with pytest.raises(MismatchError, match=r"b\.tar"):
        prove_input(sealed, sha256_of_file, ".tar")
    (sealed / "train" / "b.tar").unlink()
    with pytest.raises(MissingInputError, match=r"b\.tar"):
        prove_input(sealed, sha256_of_file, ".tar")


def test_a_part_of_a_sealed_folder_is_proven_alone(sealed):
    digest = named(sealed / "train", sha256_of_file)
    (sealed / "manifest.txt").write_bytes(b"edited.....")  # not below train
    assert named(sealed / "train", sha256_of_file) == digest
    (sealed / "train" / "b.tar").write_bytes(b"x" * 50)
    with pytest.raises(MismatchError, match=r"b\.tar"):
        named(sealed / "train", sha256_of_file)


def test_a_folder_of_sealed_folders_combines_them_and_refuses_what_no_manifest_lists(sealed, tmp_path):
    one = named(tmp_path, sha256_of_file)
    make_sealed(tmp_path / "nested" / "other")
    both = named(tmp_path, sha256_of_file)
    assert one != both
    (tmp_path / ".set.tmp-1-0").mkdir()
    (tmp_path / ".set.tmp-1-0" / "half").write_bytes(b"")
    assert named(tmp_path, sha256_of_file) == both
    (tmp_path / "nested" / "stray").write_bytes(b"")
    with pytest.raises(MismatchError, match="stray"):
        named(tmp_path, sha256_of_file)


def test_plain_files_and_unsealed_raw_folders_are_named_by_their_bytes(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a").write_bytes(b"1")
    before = named(tmp_path / "raw", sha256_of_file)
    assert named(tmp_path / "raw" / "a", sha256_of_file) == sha256_of_file(tmp_path / "raw" / "a")
    (tmp_path / "raw" / "a").write_bytes(b"2")
    assert named(tmp_path / "raw", sha256_of_file) != before
    with pytest.raises(MissingInputError, match="absent"):
        named(tmp_path / "absent", sha256_of_file)


def test_a_link_cannot_be_sealed_and_a_manifest_cannot_leave_its_folder(tmp_path, sealed):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "l").symlink_to(sealed / "manifest.txt")
    with pytest.raises(BadDataError, match="links/l"):
        seal(tmp_path / "links", sha256_of_file)
    (sealed / MANIFEST_NAME).write_text('{"files": {"../x": {"bytes": 1, "sha256": "00"}}}')
    with pytest.raises(BadDataError, match=r"\.\./x"):
        verify_sealed(sealed, sha256_of_file)


@pytest.mark.parametrize("below", ["", "train", "train/deep"])
def test_what_lies_beside_the_listed_files_is_named_from_wherever_one_looks(tmp_path, monkeypatch, below):
    """Files, links to files and to folders, hidden files, a manifest of a folder inside; none of them in a sibling."""
    folder = tmp_path / "set"
    for name in ("train/deep/a.tar", "train2/b.tar", "train/MANIFEST.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    seal(folder, sha256_of_file)
    monkeypatch.chdir(folder)
    for directory in (folder, folder / ".", Path(), Path("../set")):
        expected = {"": 3, "train": 2, "train/deep": 1}[below]
        assert len(verify_sealed(directory, sha256_of_file, below)) == expected
        for more in (".hidden", "link", "loop", "MANIFEST.json" if below == "train/deep" else "more"):
            path = folder / below / more
            if more in ("link", "loop"):
                path.symlink_to(folder / "train2" if more == "loop" else folder / "train2/b.tar")
            else:
                path.write_bytes(b"more")
            with pytest.raises(MismatchError, match=rf"does not list[^|]*{more}"):
                verify_sealed(directory, sha256_of_file, below)
            path.unlink()
    (folder / "train2/more").write_bytes(b"more")
    if below:
        verify_sealed(folder, sha256_of_file, below)


def test_a_folder_or_a_dangling_link_in_the_place_of_a_file_is_a_missing_file(sealed):
    path = sealed / "train" / "a.tar"
    path.unlink()
    path.mkdir()
    with pytest.raises(MissingInputError, match=r"a\.tar"):
        verify_sealed(sealed, sha256_of_file)
    path.rmdir()
    path.symlink_to("nowhere")
    with pytest.raises(MissingInputError, match=r"a\.tar"):
        verify_sealed(sealed, sha256_of_file)
