"""`whale export`: a checkpoint as one folder to hand on."""

from pathlib import Path
from typing import Annotated

import typer

from whale.commands.output import AsJson, tell
from whale.common.errors import ConfigError

EXAMPLE = "Example: whale export artifacts/demo/models/finetuned/dynamics/full --to handed-on"
LAYOUTS = ("whale", "lerobot", "world")


def export(
    checkpoint: Annotated[str, typer.Argument(help="A published folder, its sha256, or the stage that made it")],
    to: Annotated[Path, typer.Option("--to", help="A new folder")],
    layout: Annotated[str, typer.Option("--as", help="whale, lerobot or world")] = "whale",
    reward: Annotated[Path | None, typer.Option("--reward", help="A reward head to take along (--as world)")] = None,
    as_json: AsJson = False,
) -> None:
    """Export a checkpoint as one folder. With card, evaluations, calibration, licences, citations and statements.

    --as lerobot: config.json, model.safetensors, the action normalisation as LeRobot's preprocessor, statistics in its
    dialect, card, statements. Stock LeRobot reads the preprocessor and the statistics; it has no class for a world
    model, so loading the weights needs this package.
    """
    from whale.audit.exports.lerobot import export_lerobot
    from whale.audit.exports.package import export_folder
    from whale.commands.lineage.artefact import load_graph

    if layout not in LAYOUTS:
        raise ConfigError("no such layout", place="--as", found=layout, expected=", ".join(LAYOUTS))
    if reward is not None and layout != "world":
        raise ConfigError("only a world takes a reward head along", place="--reward", expected="--as world")
    asked = load_graph()
    asked.require_held()  # what is handed on carries the statements with it
    graph, target = asked.graph, asked.graph.find(checkpoint)
    if layout == "world":
        from whale.audit.exports.world import export_world

        files = export_world(target, graph, to, reward)
    else:
        files = (export_folder if layout == "whale" else export_lerobot)(target, graph, to)
    tell({"out": str(to), "files": files}, as_json, lambda _: print(f"{to}: {len(files)} files; see README.md"))
