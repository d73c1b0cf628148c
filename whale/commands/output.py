"""What every command prints: a table for people, or one JSON object for programs."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from whale.common.errors import ConfigError
from whale.common.printable import one_line

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of a table.")]

AllowLicences = Annotated[
    str | None, typer.Option("--allow-licenses", help="SPDX ids with commas between; exit 3 if another is found.")
]


def group(about: str) -> typer.Typer:
    """The app of `whale NAME COMMAND`; without its callback typer would leave out the name of a single command."""
    app = typer.Typer(no_args_is_help=True, help=about)
    app.callback()(lambda: None)
    return app


def tell(found: T, as_json: bool, say: Callable[[T], None]) -> None:
    """`found` to programs as JSON, to people as `say` prints it, no text in it looking like a line of ours."""
    if as_json:
        print_json(found)
    else:
        say(one_line(found))


def require_folder(path: Path, option: str) -> None:
    """ConfigError unless `path` is a folder that can be written to, or can become one. Nothing is made: ask before
    hours of work, whose result would have no place."""
    known = next(each for each in (path, *path.absolute().parents) if each.exists() or each.is_symlink())
    if not known.is_dir():
        raise ConfigError("not a folder", file=known, place=option, found="a file", expected="a folder, or a new name")
    if not os.access(known, os.W_OK | os.X_OK):
        raise ConfigError("a folder that cannot be written to", file=known, place=option,
                          remedy="name another one, or change its mode")  # fmt: skip


def print_json(value: object) -> None:
    """One sorted JSON object on stdout."""
    print(json.dumps(value, sort_keys=True, indent=1))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their longest cell, each on one line; numbers to the right, nothing for None."""
    cells = [list(header), *[["" if value is None else one_line(str(value)) for value in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        print("  ".join(_pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def print_columns(columns: Mapping[str, tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of dicts. `columns`: header -> (key of a row, its format)."""
    cells = [[None if row.get(key) is None else f"{row[key]:{form}}" for key, form in columns.values()] for row in rows]
    print_table(list(columns), cells)


def _pad(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1] in "-+.0123456789" and cell[-1:].isdigit() else cell.ljust(width)
