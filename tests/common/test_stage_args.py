"""A stage's arguments: paths from its command line, sections from params.yaml."""

from pathlib import Path
from typing import Annotated

import pytest

from whale.common.config import Config
from whale.common.errors import ConfigError
from whale.common.stage_args import OF_ITEM, StageArgs, parse


class Sizes(Config):
    width: int
    depth: int = 2


class Args(StageArgs):
    raw_dir: Path
    sizes: Annotated[Sizes, OF_ITEM]
    common: Sizes
    words: Annotated[list, lambda item: [item, "x"]]
    seed: int


@pytest.fixture(autouse=True)
def params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 5\nsizes: {big: {width: 9}}\ncommon: {width: 1}\n")


def test_paths_come_from_the_command_line_and_out_is_no_input():
    given = parse(Args, ["--item", "big", "--raw-dir", "a/b", "--out", "c"], "stage", "What it does.")
    assert (given.item, given.raw_dir, given.out, given.metrics) == ("big", Path("a/b"), Path("c"), None)
    assert Args.inputs() == ["raw_dir"]
    with pytest.raises(SystemExit):
        parse(Args, ["--out", "c"], "stage", None)


def test_sections_are_those_of_the_fields_names_with_all_defaults():
    args = Args.load("big", raw_dir=Path("a"))
    assert args.deciding_values() == {
        "sizes": {"width": 9, "depth": 2},
        "common": {"width": 1, "depth": 2},
        "words": ["big", "x"],
        "seed": 5,
    }
    with pytest.raises(ConfigError, match=r"sizes\.small"):
        Args.load("small", raw_dir=Path("a"))


def test_built_by_hand_nothing_is_read():
    Path("params.yaml").unlink()
    args = Args(raw_dir=Path("a"), sizes=Sizes(width=1), common=Sizes(width=2), words=[], seed=0)
    assert args.item is None and args.common.width == 2
    with pytest.raises(AttributeError):
        args.seed = 1
