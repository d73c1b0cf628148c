"""What lies in a file's place is named by whoever reads it, whatever the format."""

import pytest

from whale.common.boundary import reading
from whale.common.errors import BadDataError
from whale.common.json_files import read_json
from whale.data.ingest.sources.columns import column_names, other_columns, read_columns
from whale.data.ingest.sources.hdf5 import open_hdf5
from whale.data.ingest.sources.json_files import read_json_lines
from whale.data.storage.npy import read_npz

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
READERS = [read_json, read_json_lines, read_columns, column_names, other_columns, open_hdf5, read_npz]


@pytest.mark.parametrize("read", READERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    ("data", "named"), [(POINTER, r"Git LFS pointer(?s:.*)git lfs pull"), (b"<!DOCTYPE html>", "HTML page")]
)
def test_every_reader_names_what_lies_there_instead_and_what_to_do(tmp_path, read, data, named):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BadDataError, match=named):
        read(tmp_path / "x")


def test_of_what_is_damaged_only_its_own_error_is_told(tmp_path):
    (tmp_path / "x").write_bytes(b"data")
    for file in (tmp_path / "x", tmp_path, tmp_path / "absent", "a name"):
        with pytest.raises(BadDataError) as found, reading(file, "not a thing"):
            raise KeyError("part")
        assert (found.value.what, found.value.remedy) == ("not a thing", None)
