"""What lies in a file's place is named by whoever reads it, whatever the format."""

from pathlib import Path

import pytest

from whale.common import boundary
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


OURS = str(Path(boundary.__file__).with_name("a_reader.py"))
THEIRS = "/usr/lib/python3/a_library.py"
OF_A_BUG = ["assert 1 == 2, 'cannot happen'", "no_such_name", "raise NotImplementedError",
            "import whale.common.errors\nwhale.common.errors.no_such_thing", "path.no_such_thing()"]  # fmt: skip
OF_BYTES = ["{}['a']", "None.get('a')", "[].items()", "int('x')", "b'\\xff'.decode()", "1 / 0", "[][3]", "len(3)"]


def raise_in(file: str, text: str) -> None:
    """As if `text` stood in that file."""
    from whale.common.errors import WhaleError

    exec(compile(text, file, "exec"), {"path": WhaleError("x")})


@pytest.mark.parametrize("text", OF_A_BUG)
def test_a_bug_of_ours_is_no_error_of_the_file(tmp_path, text):
    with pytest.raises((AssertionError, NameError, NotImplementedError, AttributeError)), reading(tmp_path, "damaged"):
        raise_in(OURS, text)


@pytest.mark.parametrize(
    ("file", "text"), [*((OURS, each) for each in OF_BYTES), *((THEIRS, each) for each in OF_A_BUG)]
)
def test_what_bytes_can_cause_and_whatever_a_library_raises_is_an_error_of_the_file(tmp_path, file, text):
    with pytest.raises(BadDataError, match="damaged"), reading(tmp_path, "damaged"):
        raise_in(file, text)
