"""`whale fsck`: read everything that is stored here again."""

import typer

from whale.commands.output import AsJson, print_json

EXAMPLE = "Example: whale fsck"


def fsck(as_json: AsJson = False) -> None:
    """DVC's cache, every sealed folder and the ledger, byte by byte; exit 1 names what has rotted, 2 what is gone."""
    from whale.audit.checks.fsck import fsck as check
    from whale.commands.lineage_text import verify as say

    report = check()
    if as_json:
        print_json(report.as_dict())
    else:
        say("this project", report)
    raise typer.Exit(report.code)
