"""No file gets past the first look by its name, nor by what the child says beside its answers."""

from pathlib import Path

import pytest

from whale.common.errors import BadDataError
from whale.data.ingest.sources.hdf5_probe import require_passable

PROGRAM = """
import os
from whale.data.ingest.sources.hdf5_probe import serve

def look_over(path):
    assert path.is_file(), path
    seen.append(path.name)
    if path.name == {deadly!r}:
        os._exit(9)
    print({said!r}, end="", flush=True)

seen = []
serve(look_over)
assert seen == {seen!r}, seen
os._exit({code})
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A program in the library's place: which file it does not survive, what it prints by itself, how it ends."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(names, deadly=None, said="", code=0):
        module = f"looks_over_{abs(hash((tuple(names), deadly, said, code)))}"
        text = PROGRAM.format(deadly=deadly, said=said, seen=list(names), code=code)
        (tmp_path / f"{module}.py").write_text(text)
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.write_bytes(b"")
        return paths, module

    return write


@pytest.mark.parametrize("first", ["a.h5", "a\nb.h5", "a\r\nb\u2028c.h5", '"a".h5', "a\n\n\nb.h5"])
def test_a_file_that_kills_the_child_is_named_whatever_another_is_called(child, first):
    paths, module = child([first, "z.h5"], deadly="z.h5")
    with pytest.raises(BadDataError) as caught:
        require_passable(paths, module)
    assert caught.value.file == paths[1]


def test_files_of_any_name_are_looked_over(child):
    require_passable(*child(["a\nb.h5", "\u00fc \u4e00.h5"]))


@pytest.mark.parametrize("said", ["\n", "noise\n", "noise"])
def test_what_the_library_prints_is_no_answer(child, said):
    paths, module = child(["a.h5", "z.h5"], deadly="z.h5", said=said)
    with pytest.raises(BadDataError):
        require_passable(paths, module)


def test_a_child_that_answers_and_then_ends_badly_has_passed_nothing(child):
    paths, module = child(["a.h5"], code=3)
    with pytest.raises(BadDataError, match="ended with 3"):
        require_passable(paths, module)


def test_a_name_that_is_no_unicode_is_an_error_of_its_file(child, tmp_path):
    paths, module = child(["a.h5"])
    odd = Path(f"{tmp_path}/\udcff.h5")
    odd.write_bytes(b"")
    with pytest.raises(BadDataError) as caught:
        require_passable([*paths, odd], module)
    assert caught.value.file == odd
