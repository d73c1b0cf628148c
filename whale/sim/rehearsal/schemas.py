"""data_specs/rehearsal/schemas.yaml: how the 27 datasets of Table 11 lie on disk, and what fills their features."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from whale.common.config import Config, load_yaml
from whale.common.errors import ConfigError

Tree = dict[str, Any]  # nested; leaves are strings: a feature, then what fills it
FILLING = re.compile(r"((?P<factor>\d+(\.\d+)?)\*)?(next(?P<ahead>\d+)_)?(?P<signal>[a-z_]+?)(?P<width>\d+)?")
STEP_FLAGS = {
    "is_first": "bool[] first",
    "is_last": "bool[] last",
    "is_terminal": "bool[] terminal",
    "reward": "float32[] reward",
    "discount": "float32[] yes",
}


class Schema(Config):
    """One dataset; `assumed` and the comments of the file are for people."""

    folder: str = Field(pattern=r"^[A-Za-z0-9_]+/\d+\.\d+\.\d+$")
    splits: list[str] = Field(min_length=1)
    moves: str = Field(pattern=r"^x?y?z?r?p?w?g?$")
    shut: bool = False
    settles: bool = False
    says: list[str] = []
    errata: list[str] = []
    assumed: list[str] = []
    file_names: str | None = None
    steps: Tree
    outside: Tree = {}

    @property
    def dataset(self) -> str:
        return self.folder.split("/")[0]

    @property
    def version(self) -> str:
        return self.folder.split("/")[1]

    def all_steps(self) -> Tree:
        """With the flags that every step has."""
        return {**self.steps, **STEP_FLAGS}


@dataclass(frozen=True)
class Filling:
    """`factor` times columns of `signal`; `ahead`: of so many steps from this one on; `width`: of signals of any.

    None: not said, which is 1.
    """

    signal: str
    factor: float | None = None
    ahead: int | None = None
    width: int | None = None


def load_schemas(path: Path, names: list[str]) -> dict[str, Schema]:
    """Those of `names`, in that order. Raises ConfigError for a name that the file has not."""
    found = load_yaml(path)
    if not isinstance(found, dict):
        raise ConfigError("not a file of schemas", file=path, found=type(found).__name__, expected="dataset: schema")
    if unknown := [name for name in names if name not in found]:
        raise ConfigError("no such dataset to rehearse", file=path, found=", ".join(unknown), expected=", ".join(found))
    return {name: Schema.parse(found[name], file=path, place=name) for name in names}


def features(tree: Mapping[str, Any]) -> Tree:
    """The tree with the feature of each leaf alone, as whale/runtime/collecting/rlds_writer.py takes it."""
    return {
        name: features(leaf) if isinstance(leaf, Mapping) else leaf.partition(" ")[0] for name, leaf in tree.items()
    }


def leaves(tree: Mapping[str, Any], way: str = "") -> Iterator[tuple[str, str, list[Filling]]]:
    """(flattened name, feature, what fills its columns) of every leaf."""
    for name, leaf in tree.items():
        if isinstance(leaf, Mapping):
            yield from leaves(leaf, f"{way}{name}/")
        else:
            if not isinstance(leaf, str) or not leaf.strip():
                raise ConfigError("not a feature", place=f"{way}{name}", found=f"{way}{name}: {leaf!r}",
                                  expected="a text: float32[3] xyz")  # fmt: skip
            feature, *fillings = leaf.split()
            yield f"{way}{name}", feature, [_filling(text) for text in fillings]


def _filling(text: str) -> Filling:
    match = FILLING.fullmatch(text)
    if match is None:
        raise ConfigError("not a signal", found=text, expected="xyz, 50*delta, next10_delta, filler7, ...")
    ahead, width = (None if match[name] is None else int(match[name]) for name in ("ahead", "width"))
    return Filling(match["signal"], None if match["factor"] is None else float(match["factor"]), ahead, width)
