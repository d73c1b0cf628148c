"""`whale export`: a checkpoint as one folder to hand on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whale.commands.output import AsJson, tell
from whale.common.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from whale.audit.run_graph import RunGraph, StageRun, Target

EXAMPLE = "Example: whale export artifacts/demo/models/finetuned/dynamics/full --to handed-on"
LAYOUTS = ("whale", "lerobot", "world")


def export(
    checkpoint: Annotated[str, typer.Argument(help="A published folder, its sha256, or the stage that made it")],
    to: Annotated[Path, typer.Option("--to", help="A new folder")],
    layout: Annotated[str, typer.Option("--as", help="whale, lerobot or world")] = "whale",
    reward: Annotated[Path | None, typer.Option("--reward", help="A reward head to take along (--as world)")] = None,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Take along what followed the first frames, for whale play (--as world)")
    ] = False,
    small: Annotated[
        bool, typer.Option("--small", help="At most 5 MB: weights rounded to float16, compared, signed (--as world)")
    ] = False,
    policy: Annotated[Path | None, typer.Option(help="Licences that may go out: see `whale lineage licenses`")] = None,
    as_json: AsJson = False,
) -> None:
    """Export a checkpoint as one folder. With card, evaluations, calibration, licences, obligations and statements.

    --policy: exit 3, and nothing is written, if a dataset behind it has a licence that the policy does not let through.

    --as lerobot: config.json, model.safetensors, the action normalisation as LeRobot's preprocessor, statistics in its
    dialect, card, statements. Stock LeRobot reads the preprocessor and the statistics; it has no class for a world
    model, so loading the weights needs this package.
    """
    from whale.audit.exports.lerobot import export_lerobot
    from whale.audit.exports.package import export_folder
    from whale.commands.lineage.artefact import load_graph

    if layout not in LAYOUTS:
        raise ConfigError("no such layout", place="--as", found=layout, expected=", ".join(LAYOUTS))
    for name, is_given in (("--reward", reward is not None), ("--recorded", recorded), ("--small", small)):
        if is_given and layout != "world":
            raise ConfigError("only a world is exported with this", place=name, expected="--as world")
    asked = load_graph()
    asked.require_held()  # what is handed on carries the statements with it
    graph, target = asked.graph, asked.graph.find(checkpoint)
    if policy is not None:
        head = [graph.find(str(reward)).run] if reward else []
        _require_allowed(target, head, graph, policy)
    if layout == "world":
        from whale.audit.exports.world_bundle.world import export_world

        files = export_world(target, graph, to, reward, recorded, small)
    else:
        files = (export_folder if layout == "whale" else export_lerobot)(target, graph, to)
    tell({"out": str(to), "files": files}, as_json, lambda _: print(f"{to}: {len(files)} files; see README.md"))


def _require_allowed(target: "Target", beside: "Sequence[StageRun]", graph: "RunGraph", file: Path) -> None:
    from whale.audit.questions.licences import licences, load_policy

    rows = licences(target.run, graph, load_policy(file), beside)["datasets"]
    if refused := [f"{row['dataset']}: {row['refused']}" for row in rows if row["refused"]]:
        remedy = "train without them, or allow them in the policy; `whale lineage licenses` shows all"
        raise RefusedError("licences that the policy does not let through", file=file,
                           found="\n            ".join(refused), remedy=remedy)  # fmt: skip
