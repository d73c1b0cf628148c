"""`whale shards`: ingested data, proved byte by byte."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whale.commands.output import AsJson, group, print_json, print_table
from whale.common.errors import MissingInputError
from whale.common.printable import one_line

if TYPE_CHECKING:
    from whale.data.workbench.shard_check import Report

SHOWN = 20
Directory = Annotated[Path, typer.Argument(help="A dataset's folder, or the folder above several.")]
Decode = Annotated[bool, typer.Option("--decode", help="Decode every frame as well.")]

app = group("Ingested data: shards, index, manifest.")


@app.command("verify", epilog="Example: whale shards verify artifacts/demo/data/pretrain/shards")
def verify(directory: Directory, decode: Decode = False, as_json: AsJson = False) -> None:
    """Check every byte of ingested data. Headers, payloads, padding, unlisted files; exit code 1 on a finding."""
    from whale.data.segments.grid import dataset_folders
    from whale.data.workbench.shard_check import check_shards

    folders = [directory] if (directory / "manifest.json").is_file() else dataset_folders(directory)
    if not folders:
        raise MissingInputError("no manifest.json here or one level below", file=directory, remedy="run ingest")
    reports = [check_shards(folder, decode) for folder in folders]
    if as_json:
        plain = [vars(r) | {"directory": str(r.directory), "findings": list(map(vars, r.findings))} for r in reports]
        print_json({"datasets": plain, "ok": not any(report.findings for report in reports)})
    else:
        _print(reports)
    raise typer.Exit(1 if any(report.findings for report in reports) else 0)


def _print(reports: "list[Report]") -> None:
    rows = [
        [r.name or r.directory.name, r.shards, r.episodes, r.frames, f"{r.bytes / 1e6:.1f}",
         f"{len(r.findings)} findings" if r.findings else "ok"]
        for r in reports
    ]  # fmt: skip
    print_table(["dataset", "shards", "episodes", "frames", "MB", "verdict"], rows)
    for report in reports:
        for finding in report.findings[:SHOWN]:
            print(f"  {one_line(str(finding))}")
        if len(report.findings) > SHOWN:
            print(f"  ... and {len(report.findings) - SHOWN} more (--json has all)")
