"""The pipeline as a picture: stages in layers, each below everything it reads from, with what it is for."""

from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from whale.common.config import load_sections
from whale.pipeline_file import expand, stage_bodies, upstream
from whale.reporting.page import Section, render

Parents = Mapping[str, set[str]]
LEAD = (
    "What makes what, as dvc.yaml says it: everything stands below all that it reads. What follows from a longer way "
    "is left out."
)


def pipeline_section(pipeline: Path, params: Path) -> Section:
    """`pipeline`: dvc.yaml or its outline, filled in from `params`. Raises ConfigError where it asks for more."""
    nodes = expand(load_sections(pipeline), load_sections(params))
    stage_of = {node.name: node.stage for node in nodes}
    parents: dict[str, set[str]] = {node.stage: set() for node in nodes}
    for name, makers in upstream(nodes).items():
        parents[stage_of[name]] |= {stage_of[maker] for maker in makers} - {stage_of[name]}
    nearest = without_detours(parents)
    items = {stage: [node.item for node in nodes if node.stage == stage and node.item] for stage in parents}
    purposes = {stage: body.get("desc", "") for stage, body in stage_bodies(pipeline).items()}
    rows = [
        [
            {"name": stage, "desc": purposes[stage], "each": items[stage], "after": sorted(nearest[stage])}
            for stage in parents
            if stage in layer
        ]
        for layer in layers(parents)
    ]
    return Section("Pipeline", render("pipeline.html", layers=rows, lead=LEAD))


def layers(parents: Parents) -> list[set[str]]:
    """Stages whose parents all stand in earlier layers."""
    sorter, found = TopologicalSorter(parents), []
    sorter.prepare()
    while sorter.is_active():
        found.append(set(sorter.get_ready()))
        sorter.done(*found[-1])
    return found


def without_detours(parents: Parents) -> dict[str, set[str]]:
    """Parents that are no ancestors of another parent: what follows from a longer way says nothing new."""
    ancestors: dict[str, set[str]] = {}
    for stage in TopologicalSorter(parents).static_order():
        ancestors[stage] = parents[stage].union(*(ancestors[parent] for parent in parents[stage]))
    return {stage: near - {far for parent in near for far in ancestors[parent]} for stage, near in parents.items()}
