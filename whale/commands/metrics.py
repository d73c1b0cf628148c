"""`whale metrics`: the numbers of the active profile, one line each."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands.output import AsJson, print_json, print_table
from whale.commands.profile import flatten
from whale.commands.timings import active_profile
from whale.errors import MissingInputError

EXAMPLE = "Example: whale metrics --only psnr"


def metrics(
    only: Annotated[str | None, typer.Option(help="Show names that contain this.")] = None, as_json: AsJson = False
) -> None:
    """artifacts/<profile>/metrics/*.json, flattened to dotted names."""
    found = read_metrics(Path("artifacts") / (active_profile() or "demo") / "metrics")
    kept = {name: value for name, value in found.items() if only is None or only in name}
    if as_json:
        print_json(kept)
        return
    print_table(["metric", "value"], [[name, _text(value)] for name, value in kept.items()])


def read_metrics(directory: Path) -> dict[str, Any]:
    """{stage.name: value} of every metrics file; MissingInputError when no stage has written one."""
    files = sorted(directory.glob("*.json"))
    if not files:
        raise MissingInputError("no metrics yet", file=directory, remedy="run `make demo`, or `dvc repro`")
    return {name: value for file in files for name, value in flatten(json.loads(file.read_bytes()), file.stem).items()}


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
