"""What a stage is started with: the paths of its command line, and the values that decide its bytes.

    class Args(StageArgs):
        shards: Path
        mix: Path
        train_tokenizer: TrainTokenizerConfig
        segments: SegmentConfig
        seed: int

A `Path` is an input: `--shards PATH`. Any other field is the section of params.yaml that has its name; `OF_ITEM` takes
the section's entry for the item, and a function takes whatever it returns for the item. Built by hand
(`Args(shards=Path("x"), ...)`) nothing is read at all.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, dataclass_transform, get_args, get_origin, get_type_hints

from whale.common.config import Config, load_seed

OF_ITEM = "of item"


def node_name(stage: str, item: str | None) -> str:
    """As DVC names a stage, or one item of a foreach stage."""
    return stage if item is None else f"{stage}@{item}"


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class StageArgs:
    """Base of every stage's `Args`. `item`: the entry of a foreach stage, e.g. a dataset."""

    grace_seconds: ClassVar[float] = 0.0  # between SIGTERM and SIGKILL when DVC ends: training saves a step
    is_last: ClassVar[bool] = False  # of the pipeline: then tracking is brought up to date
    unread: ClassVar[Mapping[str, str]] = {}  # input -> how files of it end that are never opened, but for their size

    item: str | None = None

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def inputs(cls) -> list[str]:
        """Names of the fields that are paths."""
        return [name for name, kind in _kinds(cls).items() if kind is Path]

    @classmethod
    def load(cls, item: str | None = None, **paths: Path) -> Self:
        """Sections from params.yaml of the current folder; ConfigError names every problem of a section."""
        values = {
            name: _load(name, kind, item) for name, kind in _kinds(cls).items() if kind is not Path and name != "item"
        }
        return cls(**({"item": item} | paths | values))

    def deciding_values(self) -> dict[str, Any]:
        """Plain data: every value that is no path, with all defaults."""
        names = [name for name, kind in _kinds(type(self)).items() if kind is not Path and name != "item"]
        return {name: _plain(getattr(self, name)) for name in names}


def parse(kind: type[StageArgs], argv: Sequence[str], prog: str, doc: str | None) -> argparse.Namespace:
    """`item`, every input, `out` and `metrics` (both Path or None) of a stage's command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=doc, epilog="Started by `dvc repro`; values come from params.yaml."
    )
    parser.add_argument("--item", help="the entry of a foreach stage, e.g. a dataset")
    for name in kind.inputs():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path, metavar="PATH")
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="the folder that is made")
    parser.add_argument("--metrics", type=Path, metavar="PATH", help="a JSON file of numbers, for stages that have any")
    return parser.parse_args(argv)


def _kinds(cls: type[StageArgs]) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def _load(name: str, kind: Any, item: str | None) -> Any:
    if kind is int and name == "seed":
        return load_seed()
    if get_origin(kind) is not Annotated:
        return kind.load(name)
    inner, how = get_args(kind)
    return inner.load(name, item) if how == OF_ITEM else how(item)


def _plain(value: Any) -> Any:
    return value.deciding_values() if isinstance(value, Config) else value
