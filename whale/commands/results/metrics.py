"""`whale metrics`: what was measured beside its baselines, and a verdict; or every number, one line each."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands.output import AsJson, print_json, print_table
from whale.commands.project.timings import active_profile
from whale.common.errors import ConfigError, MissingInputError
from whale.common.json_files import flatten, read_json
from whale.reporting import comparisons
from whale.reporting.comparisons import short

EXAMPLE = "Example: whale metrics; whale metrics --only psnr"

VIDEO = "evaluate_video"
Only = Annotated[str | None, typer.Option(help="Show names that contain this.")]
Every = Annotated[bool, typer.Option("--all", help="Compare every model, not only `full`.")]


def metrics(only: Only = None, every: Every = False, as_json: AsJson = False) -> None:
    """Show every number beside its baseline. The worse ones stand first; then what works and what does not yet.

    --only and --json: artifacts/<profile>/metrics/*.json, flattened to dotted names.
    """
    profile = active_profile() or "demo"
    found = read_metrics(Path("artifacts") / profile / "metrics")
    kept = {name: value for name, value in found.items() if only is None or only in name}
    if only is not None and not kept:
        near = difflib.get_close_matches(only, {part for name in found for part in name.split(".")}, n=3, cutoff=0.4)
        expected = f"a part of a name, such as {', '.join(sorted(near) or list(found)[:1])}"
        raise ConfigError("no metric has such a name", place="--only", found=only, expected=expected)
    if as_json:
        print_json(kept)
    elif only is not None:
        print_table(["metric", "value"], [[name, short(value)] for name, value in kept.items()])
    else:
        _print(found, Path("artifacts") / profile, every)


def read_metrics(directory: Path) -> dict[str, Any]:
    """{stage.name: value} of every metrics file; MissingInputError when no stage has written one."""
    files = sorted(directory.glob("*.json"))
    if not files:
        raise MissingInputError("no metrics yet", file=directory, remedy="run `make demo`, or `dvc repro`")
    return flatten({file.stem: read_json(file) for file in files})


def _print(found: Mapping[str, Any], artifacts: Path, every: bool) -> None:
    rows = comparisons.compare(found, every)
    splits = comparisons.splits_of(rows)
    header = ["", "baseline", *("  " + name.partition(".")[2] for name in splits)]
    table = [["", "", *("  ours | baseline" for _ in splits)]]
    table += [[row.label, row.against, *(_cell(row.cells.get(name)) for name in splits)] for row in rows]
    print_table(header, table)
    for line in _codebook_lines(found):
        print(line)
    print("every number: whale metrics --only ''" + ("" if every else "; every model: whale metrics --all"))
    print()
    print("\n".join([*comparisons.verdict(rows), *comparisons.unjudged(found)]))
    print("\n".join(_next(artifacts, splits)))


def _next(artifacts: Path, splits: Sequence[str]) -> list[str]:
    """Where the report lies, and three commands that go on from here."""
    model, page = artifacts / "models/dynamics/full", artifacts / "report/index.html"
    lines = [f"Report: {page}"] if page.is_file() else []
    lines.append("Try next:")
    for name in splits[:1]:
        _, dataset, split = name.split(".")
        lines += [
            "  # see one episode imagined",
            f"  whale rollout {model} --episode {dataset}/{split}/0 --out rollout.gif",
        ]
    lines += ["  # see what the model was made from, and whether a byte has changed since", f"  whale audit {model}"]
    return [*lines, "  # begin with episodes of your own (docs/how-to/add-a-dataset.md)", "  whale spec init PATH"]


def _codebook_lines(found: Mapping[str, Any]) -> list[str]:
    """One line per role."""
    from whale.reporting.numbers_section import codebook_line

    lines = {role: codebook_line(found, f"{VIDEO}.{role}") for role in ("pretrain", "finetune")}
    return [f"{role}, {line}" for role, line in lines.items() if line]


def _cell(cell: comparisons.Cell | None) -> str:
    return "  -" if cell is None else f"{cell.outcome:1} {short(cell.ours)} | {short(cell.baseline)}"
