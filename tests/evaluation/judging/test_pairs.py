"""A folder of pairs from strangers: how many, how large packed, how large unpacked, and what its texts may hold."""

import shutil

import numpy as np
import pytest
from judge_server import pair
from limited import run_limited

from whale.common.errors import BadDataError, BeyondLimitError, ConfigError
from whale.common.json_files import write_json
from whale.common.limits import LANGUAGE_CHARACTERS, PAIR_FILE_BYTES, SOURCE_CHARACTERS
from whale.data.storage import images
from whale.evaluation.judging import pairs
from whale.evaluation.judging.pairs import About, Pair, Source, read_pairs, write_pairs

SOURCE = Source(data="somebody", model="something")


@pytest.fixture
def folder(tmp_path):
    write_pairs(tmp_path / "p", SOURCE, [pair(name=f"p{number}") for number in range(3)])
    return tmp_path / "p"


def test_more_pairs_than_are_allowed_are_refused_before_one_is_read(folder, monkeypatch):
    monkeypatch.setattr(pairs, "PAIRS", 2)
    with pytest.raises(BeyondLimitError, match=r"(?s)too many pairs.*file:.*found: +more than 2.*<= 2.*remedy"):
        read_pairs(folder)
    monkeypatch.setattr(pairs, "PAIRS", 3)
    assert len(read_pairs(folder)[1]) == 3


def test_pairs_that_unpack_to_too_much_together_are_refused_at_the_first_that_is(tmp_path):
    """Eight pairs of some KB hold 8 x 2 x 12 MB; each by itself is allowed."""
    grey = np.zeros((2048, 2048, 3), np.uint8)
    write_pairs(tmp_path / "p", SOURCE, [Pair("visual", "any", "p0", grey, grey, About())])
    for number in range(1, 8):
        shutil.copytree(tmp_path / "p/visual/any/p0", tmp_path / f"p/visual/any/p{number}")
    imports = "from pathlib import Path; from whale.evaluation.judging import pairs; pairs.PAIRS_BYTES = 64 << 20"
    said = run_limited(imports, f"pairs.read_pairs(Path({str(tmp_path / 'p')!r}))", memory=192 << 20)
    assert said.startswith("BeyondLimitError: pairs that unpack to too much")
    assert "visual/any/p2" in said and "<= 67108864 bytes" in said and "remedy" in said


def test_a_frame_whose_file_is_too_large_is_not_read(folder):
    path = folder / "visual/any/p1/imagined.png"
    with open(path, "ab") as stream:
        stream.truncate(PAIR_FILE_BYTES + 1)
    with pytest.raises(BadDataError, match=r"(?s)too large.*p1/imagined\.png.*found:.*expected:"):
        read_pairs(folder)


def test_a_frame_of_more_pixels_than_any_is_refused_by_its_header(folder):
    path = folder / "visual/any/p1/imagined.png"
    small = images.encode_png(np.zeros((2, 2, 3), np.uint8))
    path.write_bytes(small[:16] + (100_000).to_bytes(4, "big") * 2 + small[24:])
    with pytest.raises(BadDataError, match=r"(?s)p1/imagined\.png.*found: +100000 x 100000"):
        read_pairs(folder)


@pytest.mark.parametrize(
    ("file", "values", "place"),
    [
        ("visual/any/p1/about.json", {"instruction": "x" * (LANGUAGE_CHARACTERS + 1)}, "instruction"),
        ("source.json", {"data": "x" * (SOURCE_CHARACTERS + 1), "model": "m"}, "data"),
        ("source.json", {"data": "d", "model": "x" * (SOURCE_CHARACTERS + 1)}, "model"),
    ],
)
def test_texts_that_are_too_long_are_refused_with_their_file(folder, file, values, place):
    write_json(folder / file, values)
    with pytest.raises(ConfigError, match=rf"(?s){file}.*place: +{place}"):
        read_pairs(folder)
