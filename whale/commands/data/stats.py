"""`whale stats`: action statistics of datasets and checkpoints, for the tools of others."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands.output import AsJson, print_json, print_table, require_folder
from whale.common.errors import MissingInputError
from whale.common.json_files import read_json

Source = Annotated[Path, typer.Argument(help="A checkpoint, the folder of `mix`, or a dataset's folder of shards.")]
DialectName = Annotated[str, typer.Option("--dialect", help="openvla, octo, openpi or lerobot.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
FILES = ("dataset_statistics.json", "statistics.json")

app = typer.Typer(no_args_is_help=True, help="Action statistics: train split, raw units.")


@app.command("show", epilog="Example: whale stats show artifacts/demo/mix")
def show(source: Source, as_json: AsJson = False) -> None:
    """Show action statistics. Mean, deviation, 1 % and 99 % quantiles of every dimension; dead ones are marked."""
    statistics = read_statistics(source)
    if as_json:
        print_json({"statistics": statistics})
        return
    rows = []
    for name, entry in sorted(statistics.items()):
        action = entry["action"]
        for number, dimension in enumerate(("x", "y", "z", "roll", "pitch", "yaw", "gripper")):
            values = [f"{action[key][number]:.4g}" for key in ("mean", "std", "q01", "q99", "min", "max")]
            rows.append([name, dimension, *values, "" if action["mask"][number] else "dead"])
    print_table(["dataset", "dimension", "mean", "std", "q01", "q99", "min", "max", ""], rows)


@app.command("export", epilog="Example: whale stats export artifacts/demo/mix --dialect openvla --out exported")
def export(source: Source, dialect: DialectName, out: Out, as_json: AsJson = False) -> None:
    """Write statistics for other loaders. In their format; says what that has no place for."""
    from whale.common.files import write_atomically
    from whale.data.workbench.dialects import DIALECTS, export_statistics

    require_folder(out, "--out")
    statistics = read_statistics(source)
    files = export_statistics(dialect, statistics)
    for name, content in files.items():
        write_atomically(out / name, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    written, lost = [str(out / name) for name in files], DIALECTS[dialect].lost
    if as_json:
        print_json({"dialect": dialect, "files": written, "lost": list(lost), "gripper_flipped": dialect == "openpi"})
        return
    print("\n".join(written))
    print(f"not in this dialect: {', '.join(lost)}" + ("; gripper flipped: 1 = closed" if dialect == "openpi" else ""))


def read_statistics(source: Path) -> dict[str, Any]:
    """{dataset: statistics} of whatever folder holds some."""
    for path in [source / name for name in FILES] if source.is_dir() else [source]:
        if path.is_file():
            content = read_json(path)
            if "action" not in content:
                return content
            manifest = path.parent / "manifest.json"
            name = read_json(manifest)["name"] if manifest.is_file() else path.parent.name
            return {name: content}
    raise MissingInputError("no statistics here", file=source, expected=" or ".join(FILES))
