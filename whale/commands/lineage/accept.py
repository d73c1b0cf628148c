"""`whale accept`: an edit of code that changes no byte need not run anything again."""

from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands.output import AsJson, tell

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

    --check runs one source file (of the train split) or shard, 3 steps of a training, 1 episode of an evaluation.
    """
    from whale.audit import accept as accepting
    from whale.audit.checks.verify import make_hasher
    from whale.audit.run_graph import RunGraph
    from whale.commands.project.plan import dvc_status
    from whale.common.errors import WhaleError

    graph, hasher = RunGraph.load(), make_hasher(deep=False)
    chosen = _named(stages)
    status = {name: changes for name, changes in dvc_status().items() if chosen is None or name in chosen}
    rows: list[dict[str, Any]] = [
        {"stage": name, "outcome": "up to date", "files": []} for name in chosen or () if name not in status
    ]
    waiting: list[Any] = []
    for each in accepting.candidates(status, graph, Path.cwd(), hasher):
        row: dict[str, Any] = {"stage": each.stage, "files": sorted(each.change.files) if each.change else []}
        rows.append(row)
        try:
            if dry_run:
                row |= _foreseen(each, because)
                continue
            checked = _checked(each, row) if check and each.change else None
            made = accepting.accept(each, graph, because, checked)
            if check:  # the next sample may take hours
                accepting.tell_dvc([each], graph)
            else:
                waiting.append(each)
            row |= {"outcome": "accepted", "basis": made.basis if made else None}
        except WhaleError as error:
            row |= {"outcome": "refused", "why": str(error.found or error.what).split("\n            ")}
            row["remedy"] = error.remedy
    hasher.save()
    if waiting:
        accepting.tell_dvc(waiting, graph)
    tell({"stages": rows}, as_json, lambda found: _print(found["stages"]))
    raise typer.Exit(3 if any("refused" in row["outcome"] for row in rows) else 0)


def _named(stages: list[str] | None) -> list[str] | None:
    """Stages of the pipeline; `ingest` stands for ingest@x of every x. ConfigError for another name."""
    from whale.common.config import load_sections
    from whale.common.errors import ConfigError
    from whale.pipeline_file import expand

    if not stages:
        return None
    nodes = expand(load_sections("dvc.yaml"), load_sections("params.yaml"))
    found = {name: [node.name for node in nodes if name in (node.name, node.stage)] for name in stages}
    if unknown := [name for name, own in found.items() if not own]:
        known = sorted({node.stage for node in nodes})
        raise ConfigError("no such stage", found=", ".join(unknown), expected=", ".join(known))
    return [name for own in found.values() for name in own]


def _foreseen(candidate: Any, because: str | None) -> dict[str, Any]:
    if candidate.change is None:
        return {"outcome": "would be refused", "why": [candidate.refusal]}
    if not candidate.is_acceptable and not (because or "").strip():
        return {"outcome": "would be refused", "why": candidate.change.describe()}
    return {"outcome": "could be accepted"}


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
