"""`whale plan`: what `dvc repro` would run, why, and what it would cost."""

import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whale.commands.output import AsJson, print_json, print_table
from whale.common.errors import ConfigError, MissingInputError, WhaleError
from whale.common.json_files import parse_json

if TYPE_CHECKING:
    from whale.planning.plan import Plan, PlannedStage

WHY_WIDTH = 80  # of the table; --json has the whole
EXAMPLE = 'Example: whale plan --hardware "8x RTX 4090"'
StageName = Annotated[str | None, typer.Argument(help="ingest@NAME: what that stage would read and write.")]
HardwareName = Annotated[str | None, typer.Option("--hardware", help='"8x RTX 4090", "1x H200", cpu, "16x cpu"')]


def plan(stage: StageName = None, as_json: AsJson = False, hardware: HardwareName = None) -> None:
    """Show what `dvc repro` would run, and why. FLOP, hours, disk and memory are estimates; nothing is run."""
    if stage is not None:
        plan_one(stage, as_json)
        return
    if hardware is not None:
        from whale.planning.hardware import parse_hardware

        parse_hardware(hardware)  # a misspelt name is refused before DVC is asked, which takes half a minute
    made = make_plan(hardware)
    if as_json:
        print_json(_as_json(made))
    else:
        _print(made)


def plan_one(stage: str, as_json: bool) -> None:
    """One ingest in detail; exit code 1 if the disk cannot hold its output."""
    from whale.data.ingest.sources.source import GROUP
    from whale.planning.ingest_plan import plan_ingest

    kind, _, name = stage.partition("@")
    if kind != "ingest" or not name:
        raise ConfigError("only an ingest is planned alone", found=stage, expected="ingest@NAME")
    made = plan_ingest(name, Path())
    if as_json:
        print_json(vars(made))
    else:
        here = "here" if made.raw_is_here else f"not here: `whale data link {name} PATH`, {made.place}"
        hours = "unknown" if made.hours is None else f"{_time(made.hours)} on one core"
        unknown = f"unknown: {made.frames_from}"
        shards = unknown if made.shards is None else f"{_scaled(made.write_bytes, 'B')} in {made.shards} shards"
        units = f"{made.units_done} source files (or groups of {GROUP}) are done in work/"
        kept = f"; {units}, used if spec, files and code are still the same" if made.units_done else ""
        rows = [
            ["raw", f"{made.raw} ({here})"],
            ["reads", f"{_scaled(made.read_bytes, 'B')} in {made.files or 'unknown'} files"],
            ["frames", unknown if made.frames is None else f"{made.frames} ({made.frames_from})"],
            ["writes", f"{shards}, to {made.out}"],
            ["free", f"{_scaled(made.free_bytes, 'B')}" + (" NOT ENOUGH" if made.fits is False else "")],
            ["time", f"{hours}{kept}"],
        ]
        print_table([stage, "estimate, not run"], rows)
    raise typer.Exit(1 if made.fits is False else 0)


def make_plan(hardware: str | None = None) -> "Plan":
    """The plan of the current folder. PyTorch is imported here: no other command pays for it."""
    from whale.planning import plan as planning

    for name in ("params.yaml", "dvc.yaml"):
        if not Path(name).is_file():
            raise MissingInputError("no pipeline here", file=name, remedy="run from the project's root")
    return planning.make_plan(Path(), stale_stages() if Path(".dvc").is_dir() else None, hardware)


def summary(made: "Plan") -> list[str]:
    """Two lines: how many stages do what, and the hours."""
    from whale.planning.plan import RUNS, STATES, UP_TO_DATE

    counts = [f"{made.count(state)} {'to run' if state == RUNS else state}" for state in STATES if made.count(state)]
    waiting = [state for state in STATES if state != UP_TO_DATE]
    about = f"about {_time(made.hours(waiting))} (estimate, not run) on {made.hardware}"
    left = f"what is not up to date takes {about}" if any(map(made.count, waiting)) else "there is nothing to do"
    return [f"{len(made.stages)} stages: {', '.join(counts)}", left]


def missing(made: "Plan") -> list[str]:
    """One line per dataset that cannot be ingested or evaluated on yet, with what to do."""
    told = {(stage.item, why) for stage in made.stages if stage.state == "blocked" for why in stage.why}
    lines = {
        each.name: [why for why in each.problems if {(each.name, why), (None, why)} & told] for each in made.datasets
    }
    return [f"{name}: {'; '.join(problems)}" for name, problems in lines.items() if problems]


def blocked(made: "Plan") -> list[str]:
    """What is missing for each dataset, what DVC will say of it, and the ways on; empty where nothing is missing."""
    lines = missing(made)
    if not lines:
        return []
    said = [f"blocked datasets ({len(lines)} of {len(made.datasets)}):", *(f"  {line}" for line in lines)]
    stages = {stage.name for stage in made.stages if stage.state == "blocked"}
    if without := [each for each in made.datasets if each.missing_raw and f"ingest@{each.name}" in stages]:
        first = without[0]
        said += [
            f"until their data are linked, `dvc repro` (also with --dry) ends at ingest@{first.name} with",
            f"  [Errno 2] No such file or directory: .../{first.missing_raw}",
            "what to do:",
            "  copy the files of each dataset from the place above, then `whale data link NAME PATH`",
            "  or take datasets out of `datasets` and `mix.weights` in params.yaml; `whale plan` shows what is left",
            "  or go back to data that are made here: `whale profile use demo`",
        ]
    return said


def stale_stages() -> dict[str, list[str]]:
    """{stage: reasons} by `dvc status`; where the code alone differs, whether that could be accepted."""
    status = dvc_status()
    reasons = {name: _reasons(changes) for name, changes in status.items()}
    for name in _acceptable({name: status[name] for name, why in reasons.items() if len(why) == 1}):
        reasons[name][0] += f", comments and layout alone: `whale accept {name}`"
    return reasons


def _acceptable(status: dict[str, list[Any]]) -> list[str]:
    """Stages whose code is the same but for comments and layout."""
    from whale.audit.accept import candidates
    from whale.audit.checks.verify import make_hasher
    from whale.audit.run_graph import RunGraph
    from whale.lineage.ledger import LEDGER

    if not status or not LEDGER.is_file():
        return []
    found = candidates(status, RunGraph.load(), Path.cwd(), make_hasher(deep=False))
    return [each.stage for each in found if each.is_acceptable]


def dvc_status() -> dict[str, list[Any]]:
    """{stage: what differs}, as `dvc status --json` tells."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WhaleError("dvc status failed", found="\n".join(done.stderr.strip().splitlines()[-1:]) or "no message")
    return parse_json(done.stdout or "{}", "dvc status --json")


def _print(made: "Plan") -> None:
    from whale.planning.estimate import ASSUMPTIONS

    limit = made.hardware.device.memory
    rows = [_row(group, limit) for group in _grouped(made.stages)]
    print(f"profile {made.profile}; every figure is an estimate, not run")
    print_table(["stage", "state", "FLOP", "time", "disk", "memory", "why"], rows)
    print()
    print("\n".join(summary(made)))
    if lines := blocked(made):
        print()
        print("\n".join(lines))
    print("\nassumptions:")
    print("\n".join(f"  {line}" for line in ASSUMPTIONS))


def _grouped(stages: "tuple[PlannedStage, ...]") -> "list[list[PlannedStage]]":
    """Stages by dataset in one line per state; every other stage by itself."""
    groups: dict[tuple[str, ...], list[PlannedStage]] = {}
    for stage in stages:
        by_dataset = stage.stage in ("ingest", "pretokenize", "embed_behavior")
        key = (stage.stage, stage.state) if by_dataset else (stage.name,)
        groups.setdefault(key, []).append(stage)
    return list(groups.values())


def _row(group: "list[PlannedStage]", memory_limit: float | None) -> list[str]:
    first = group[0]
    name = first.name if len(group) == 1 else f"{first.stage} ({len(group)} datasets)"
    flops, disk = (_sum([getattr(stage.cost, what) for stage in group]) for what in ("flops", "disk"))
    hours, memory = _sum([stage.hours for stage in group]), first.cost.memory
    why = sorted({"; ".join(stage.why) for stage in group})
    reason = "see below" if first.state == "blocked" else why[0] + (" ..." if len(why) > 1 else "")
    reason = reason if len(reason) <= WHY_WIDTH else f"{reason[: WHY_WIDTH - 4]} ..."
    cells = [_scaled(flops, "") if flops else "", _time(hours) if hours else "", _scaled(disk, "B")]
    needs = _scaled(memory, "B")
    if memory and memory_limit and memory > memory_limit:
        needs += f" > {_scaled(memory_limit, 'B')}"
    return [name, first.state, *cells, needs, reason]


def _sum(values: list[float | None]) -> float | None:
    """None if nothing is known of any of them."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _time(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:,.1f} d"
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.1f} s"


def _scaled(count: float | None, unit: str) -> str:
    """Three digits and a decimal prefix: `62.5 GB`."""
    if count is None:
        return ""
    power = min(max(int(math.log10(max(count, 1))) // 3, 0), 7)
    return f"{count / 1000**power:.3g} {' kMGTPEZ'[power].strip()}{unit}".strip()


def _as_json(made: "Plan") -> dict[str, Any]:
    from whale.planning.estimate import ASSUMPTIONS

    stages = []
    for stage in made.stages:
        cost = {"flops": stage.cost.flops, "disk_bytes": stage.cost.disk, "memory_bytes_per_worker": stage.cost.memory}
        stages.append({"stage": stage.name, "state": stage.state, "why": stage.why, "hours": stage.hours} | cost)
    told = ("name", "role", "frames", "frames_from", "problems")
    return {
        "status": "estimate, not run",
        "profile": made.profile,
        "hardware": str(made.hardware),
        "assumptions": list(ASSUMPTIONS),
        "stages": stages,
        "datasets": [{name: getattr(each, name) for name in told} for each in made.datasets],
    }


def _reasons(changes: list[Any]) -> list[str]:
    """Short ones: a stage without an output was never run; code is counted, everything else is named."""
    from whale.pipeline_file import is_code

    outs, deps = _paths(changes, "changed outs"), _paths(changes, "changed deps")
    if outs and all(how == "deleted" for how in outs.values()):
        return ["not made yet"]
    code = [path for path in deps if is_code(path)]
    reasons = [str(change) for change in changes if isinstance(change, str)]  # "changed command"
    reasons += [f"{path}: {_how(how)}" for path, how in {**deps, **outs}.items() if path not in code]
    if code:
        reasons.append(f"code: {code[0]}" + (f" and {len(code) - 1} more" if len(code) > 1 else ""))
    return reasons


def _paths(changes: list[Any], kind: str) -> dict[str, Any]:
    return {path: how for change in changes if isinstance(change, dict) for path, how in change.get(kind, {}).items()}


def _how(how: Any) -> str:
    return how if isinstance(how, str) else ", ".join(f"{name} {what}" for name, what in how.items())
