"""`whale fsck`: read everything that is stored here again."""

import typer

from whale.commands.output import AsJson, print_json

EXAMPLE = "Example: whale fsck"


def fsck(as_json: AsJson = False) -> None:
    """Read again everything that is stored here. DVC's cache, sealed folders, the ledger; exit 1: changed, 2: gone."""
    from whale.audit.checks.fsck import fsck as check
    from whale.commands.lineage.text import verify as say

    report = check()
    if as_json:
        print_json(report.as_dict())
    else:
        say("this project", report)
    raise typer.Exit(report.code)
