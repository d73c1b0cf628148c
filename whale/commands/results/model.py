"""`whale model`: what the networks of a profile are, without training or loading one; weights of one that measures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whale.commands.output import AsJson, group, print_json, print_table
from whale.commands.project.profile import profile_path

if TYPE_CHECKING:
    from whale.planning.model_counts import Count

PAPER_PROFILES = ["whale-st-64", "whale-st-256", "whale-x"]
Names = Annotated[list[str] | None, typer.Argument(help="Profiles; without any, the three of the paper.")]

Out = Annotated[Path, typer.Option("--out", help="The file to write; nothing else may lie there.")]
Source = Annotated[Path | None, typer.Option("--source", help="The package's .pth, where it is not installed.")]

app = group("The networks of a profile.")


@app.command("counts", epilog="Example: whale model counts whale-x")
def counts(names: Names = None, as_json: AsJson = False) -> None:
    """Count parameters of every component. Beside Tables 5 to 7 of the paper; exit code 1 if one does not agree."""
    # PyTorch is imported here: no other command pays for it.
    from whale.planning.model_counts import model_counts
    from whale.planning.profile import load_profile

    found = {name: model_counts(load_profile(profile_path(name))) for name in names or PAPER_PROFILES}
    if as_json:
        print_json({name: [_as_json(count) for count in rows] for name, rows in found.items()})
    else:
        table = [[name, *_cells(count)] for name, rows in found.items() for count in rows]
        print_table(["profile", "component", "parameters", "paper", "ours - paper", ""], table)
    raise typer.Exit(0 if all(count.agrees for rows in found.values() for count in rows) else 1)


@app.command("weights", epilog="Example: whale model weights --out weights/percep-efflite0.safetensors")
def weights(out: Out, source: Source = None, as_json: AsJson = False) -> None:
    """Convert the weights of percep-efflite0, once. From the package of the extra `perceptual`; no pickle is run."""
    # PyTorch is imported here: no other command pays for it.
    from whale.evaluation.by_hand.efflite0_weights import convert, package_file
    from whale.evaluation.measuring.efflite0 import WEIGHTS_SHA256

    is_new = convert(source or package_file(), out)
    if as_json:
        print_json({"path": str(out), "sha256": WEIGHTS_SHA256, "written": is_new})
        return
    print(f"{out}: {'written' if is_new else 'was there already'}, as pinned\n  sha256 {WEIGHTS_SHA256}")
    print(
        f"params.yaml, evaluate_video and, if retracing is to use it, evaluate_uncertainty:\n  percep_efflite0: {out}"
    )


def _as_json(count: "Count") -> dict[str, object]:
    return {**vars(count), "difference_millions": count.difference, "agrees": count.agrees}


def _cells(count: "Count") -> list[str]:
    paper = "" if count.paper is None else f"{count.paper:g}M"
    difference = "" if count.difference is None else f"{count.difference:+.2f}M"
    note = count.note if count.agrees else f"DOES NOT AGREE (tolerance {count.tolerance}M). {count.note}"
    return [count.component, f"{count.parameters:,}", paper, difference, note]
