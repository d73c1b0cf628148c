"""`whale accept`: an edit of code that changes no byte need not run anything again."""

from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands.output import AsJson, print_json

EXAMPLE = "Example: whale accept --dry-run"
Stages = Annotated[list[str] | None, typer.Argument(help="Stages as DVC names them; all that are stale by default.")]


def accept(
    stages: Stages = None,
    because: Annotated[
        str | None, typer.Option(help="Your word that the edit changes no byte; `show` tells it ever after.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="First run a small part with both states of the code and compare bytes.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what could be accepted; sign nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Accept edited code without a new run. It is signed into the ledger and noted by DVC.

    Proven where every changed file is the same but for comments, docstrings and layout. Anything else is refused with
    the definitions that differ, unless you say --because TEXT. Exit 3 when something was refused.
    """
    from whale.audit import accept as accepting
    from whale.audit.checks.verify import make_hasher
    from whale.audit.run_graph import RunGraph
    from whale.commands.project.plan import dvc_status
    from whale.common.errors import RefusedError

    graph, hasher = RunGraph.load(), make_hasher(deep=False)
    status = dvc_status()
    chosen = {name: status[name] for name in stages if name in status} if stages else status
    rows: list[dict[str, Any]] = [
        {"stage": name, "outcome": "up to date", "files": []} for name in stages or () if name not in status
    ]
    accepted: list[str] = []
    for each in accepting.candidates(chosen, graph, Path.cwd(), hasher):
        files = sorted(each.change.files) if each.change else []
        row: dict[str, Any] = {"stage": each.stage, "files": files}
        rows.append(row)
        try:
            checked = _checked(each, row) if check and each.change else None
            if dry_run and each.change and not each.is_acceptable and because is None:
                row |= {"outcome": "would be refused", "why": each.change.describe()}
            elif dry_run and each.change:
                row["outcome"] = "could be accepted"
            else:
                made = accepting.accept(each, graph, because, checked)
                row |= {"outcome": "accepted", "basis": made.basis}
                accepted.append(each.stage)
        except RefusedError as error:
            row |= {"outcome": "refused", "why": str(error.found).split("\n            "), "remedy": error.remedy}
    hasher.save()
    if accepted:
        accepting.tell_dvc(accepted)
    if as_json:
        print_json({"stages": rows})
    else:
        _print(rows)
    raise typer.Exit(3 if any("refused" in row["outcome"] for row in rows) else 0)


def _checked(candidate: Any, row: dict[str, Any]) -> dict[str, Any]:
    """What a sample gave; RefusedError when the bytes differ: then nobody's word counts."""
    from whale.audit.sample_check import check_sample
    from whale.common.errors import RefusedError

    found = check_sample(candidate.change.run, Path.cwd())
    row["checked"] = found
    if not found["equal"]:
        raise RefusedError("a sample gives other bytes", place=candidate.stage, found=found["first_difference"])
    return found


def _print(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print("nothing is stale")
    for row in rows:
        files = ", ".join(row["files"][:3]) + (f" and {len(row['files']) - 3} more" if len(row["files"]) > 3 else "")
        basis = {"syntax": ": equal but for comments and layout", "claim": ": by your word"}.get(
            str(row.get("basis")), ""
        )
        print(f"{row['stage']}: {row['outcome']}{basis}" + (f" ({files})" if files else ""))
        if row.get("checked"):
            print(f"  checked: {row['checked']['files']} files of a sample are equal")
        for line in row.get("why", ()):
            print(f"  {line}")
        if row.get("remedy"):
            print(f"  remedy: {row['remedy']}")
