"""The lineage as one local page: every run from the raw data to the artefact, every hash one click away. No script, no
network: the report's page, with the runs in layers, each below all that it came from, and a section for each."""

from typing import Any

from markupsafe import Markup

from whale.audit.run_graph import RunGraph, StageRun, Target
from whale.reporting.page import Section, page, parts, render
from whale.reporting.pipeline_section import layers, without_detours

LEAD = "Every run stands below all that it read from. What follows from a longer way is left out."


def lineage_page(target: Target, graph: RunGraph, ledger_says: str) -> str:
    """HTML. `ledger_says`: one line on whether its signatures held."""
    runs = {each.id: each for each in graph.ancestors(target.run)}
    parents = {key: {each.id for each in graph.parents(run)} for key, run in runs.items()}
    nearest = without_detours(parents)
    rows = [[_box(runs[key], [runs[each] for each in nearest[key]]) for key in runs if key in layer]
            for layer in layers(parents)]  # fmt: skip
    sections = [Section("Runs", render("pipeline.html", layers=rows, lead=LEAD))]
    sections += [Section(title(run), parts.table(["what", "value"], _facts(run), 2)) for run in reversed(runs.values())]
    lead = f"sha256 {target.sha256}, {len(runs)} runs; the hashes of each are one click away. {ledger_says}."
    return page(f"Lineage of {target.name}", lead, Markup(), sections, "Made by `whale lineage show` from the ledger.")


def _box(run: StageRun, after: list[StageRun]) -> dict[str, Any]:
    made = f"{run.outputs[0]}, sha256 {run.subjects[run.outputs[0]][:16]}"
    return {"name": title(run), "desc": made, "each": [], "after": sorted(map(title, after))}


def title(run: StageRun) -> str:
    """A stage may have run several times."""
    return f"{run.name}:{run.run_id}"


def _facts(run: StageRun) -> list[tuple[str, str | None]]:
    rows = [("statement", run.id), ("derivation", run.internal["derivation_sha256"]), ("commit", run.code["commit"])]
    rows += [("code closure", run.code["closure_sha256"]), ("ran", f"{run.started} to {run.finished}")]
    rows += [(f"read {each.path}", each.sha256) for each in run.inputs]
    rows += [(f"used {name}", digest) for name, digest in run.settings.items()]
    return rows + [(f"made {name}", digest) for name, digest in run.subjects.items()]
