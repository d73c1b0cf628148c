"""`whale data`: where raw data lie on this machine, and what they are."""

import os
from pathlib import Path
from typing import Annotated

import typer

from whale.errors import ConfigError, MissingInputError
from whale.lineage.statement import write_json

RAW, SOURCES = Path("raw"), Path("data_specs/sources")

app = typer.Typer(no_args_is_help=True, help="Link raw data that lie outside the project.")


@app.callback()
def _several() -> None:
    """A group, also while it has one verb."""


@app.command("link", epilog="Example: whale data link bridge_sample /data/bridge_dataset/1.0.0")
def link(name: str, path: Annotated[Path, typer.Argument(help="Folder of the dataset, e.g. .../1.0.0")]) -> None:
    """Make raw/NAME point to PATH, and write what lies there (files, sizes, sha256) to data_specs/sources/NAME.json."""
    from whale.data.sources.location import describe_source

    if not name.replace("_", "").isalnum() or not name.isascii() or name != name.lower():
        raise ConfigError("not a dataset name", found=name, expected="[a-z0-9_]+, as in data_specs/<name>.yaml")
    if not path.is_dir():
        raise MissingInputError("the folder does not exist", file=path)
    target = RAW / name
    if target.exists() and not target.is_symlink():
        raise ConfigError("raw data lie here, not a link", file=target, remedy="move the folder away first")
    write_json(SOURCES / f"{name}.json", describe_source(path, name))
    RAW.mkdir(exist_ok=True)
    temporary = RAW / f".{name}.tmp-{os.getpid()}"
    temporary.symlink_to(path.absolute(), target_is_directory=True)
    os.replace(temporary, target)
    print(f"{target} -> {path.absolute()}; described in {SOURCES / name}.json (commit that file)")
