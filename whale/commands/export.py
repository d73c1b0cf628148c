"""`whale export`: a checkpoint as one folder to hand on."""

from pathlib import Path
from typing import Annotated

import typer

from whale.commands.output import AsJson, print_json

EXAMPLE = "Example: whale export artifacts/demo/models/finetuned/dynamics/full --to handed-on"


def export(
    checkpoint: Annotated[str, typer.Argument(help="A published folder, its sha256, or the stage that made it")],
    to: Annotated[Path, typer.Option("--to", help="A new folder")],
    as_json: AsJson = False,
) -> None:
    """Weights and side files with card, evaluations and protocols, calibration, licences, citations and statements."""
    from whale.audit.exports.package import export_folder
    from whale.audit.runs import RunGraph

    graph = RunGraph.load()
    files = export_folder(graph.find(checkpoint), graph, to)
    print_json({"out": str(to), "files": files}) if as_json else print(f"{to}: {len(files)} files; see README.md")
