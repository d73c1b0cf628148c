"""`whale spec`: dataset specs, listed and checked without any data."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whale.commands.output import AsJson, print_json, print_table
from whale.config import load_yaml
from whale.errors import ConfigError, MissingInputError

if TYPE_CHECKING:
    from whale.data.spec import DatasetSpec

PARAMS = Path("params.yaml")

Files = Annotated[list[Path] | None, typer.Argument(help="Specs to check; all of data_specs/ if none is named.")]

app = typer.Typer(no_args_is_help=True, help="What raw datasets mean: data_specs/<name>.yaml.")


@app.command("list", epilog="Example: whale spec list")
def list_specs(as_json: AsJson = False) -> None:
    """Every spec: version, size, weight in the active mixture, rate, licence, and whether it holds together."""
    from whale.planning.datasets import SPECS, load_facts

    facts, weights = load_facts(Path()), load_yaml(PARAMS)["mix"]["weights"] if PARAMS.is_file() else {}
    rows = []
    for path in sorted(SPECS.glob("*.yaml")):
        name = path.stem
        spec, problems = _check(path)
        known = facts.datasets.get(name)
        weight = weights[name]["weight"] if name in weights else known.table11 if known else None
        rows.append(
            {
                "name": name,
                "version": spec.source.version if spec else None,
                "episodes": spec.expect.episodes if spec else None,
                "frames": spec.expect.steps if spec else None,
                "gib": known.gib if known else None,
                "weight": weight,
                "hz": spec.robot.control_hz if spec else None,
                "licence": spec.licence.spdx if spec else None,
                "status": _status(name, problems),
            }
        )
    if as_json:
        print_json({"specs": rows})
        return
    header = ["dataset", "version", "episodes", "frames", "GiB", "weight", "Hz", "licence", "status"]
    print_table(header, [["" if value is None else _text(value) for value in row.values()] for row in rows])


@app.command("check", epilog="Example: whale spec check data_specs/toto.yaml")
def check(files: Files = None, as_json: AsJson = False) -> None:
    """Schema, and the operations on a generated raw episode; exit code 1 if a spec contradicts itself."""
    from whale.planning.datasets import SPECS

    paths = files or sorted(SPECS.glob("*.yaml"))
    for path in paths:
        if not path.is_file():
            raise MissingInputError("no such spec", file=path, expected="data_specs/<name>.yaml")
    found = {str(path): _check(path)[1] for path in paths}
    wrong = {name: problems for name, problems in found.items() if problems}
    if as_json:
        print_json({"specs": found, "ok": len(found) - len(wrong), "wrong": len(wrong)})
    else:
        for name, problems in wrong.items():
            print(f"{name}:")
            print("\n".join(f"  {problem}" for problem in problems))
        print(f"{len(found) - len(wrong)} of {len(found)} specs hold together")
    raise typer.Exit(1 if wrong else 0)


def _check(path: Path) -> tuple["DatasetSpec | None", list[str]]:
    from whale.data.spec import load_spec
    from whale.data.spec_check import check_spec

    try:
        spec = load_spec(path.stem, path.parent)
    except ConfigError as error:
        return None, [str(error)]
    return spec, [str(problem) for problem in check_spec(spec)]


def _status(name: str, problems: list[str]) -> str:
    from whale.planning.datasets import SOURCES

    if problems:
        return "wrong: whale spec check"
    return "ok, data linked" if (SOURCES / f"{name}.json").is_file() else "ok"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else ""
    return f"{value:,}" if isinstance(value, int) else str(value)
