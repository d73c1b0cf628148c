"""The report: one self-contained page made of finished results. Equal inputs give equal bytes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.errors import MissingInputError
from whale.common.json_files import read_json
from whale.evaluation.numbers.metrics import flattened
from whale.reporting.behavior.section import behavior_section
from whale.reporting.comparisons import compare
from whale.reporting.comparisons_section import comparisons_section
from whale.reporting.data_section import data_section
from whale.reporting.first_screen import first_screen, profile_of
from whale.reporting.lineage_section import lineage_section
from whale.reporting.numbers_section import ROLES, numbers_section
from whale.reporting.page import Section, page, render
from whale.reporting.pipeline_section import pipeline_section
from whale.reporting.policies.optimization_section import optimization_section, read_tasks
from whale.reporting.scaling.section import scaling_section
from whale.reporting.training_section import training_section
from whale.reporting.uncertainty_section import uncertainty_section
from whale.reporting.video_section import load_arrays, rollout_gif, video_section

TITLE = "WHALE: a world model and where it came from"
LEAD = (
    "Robot episodes in, an evaluated world model out: tokenizer, behavior embedding and dynamics, trained on the "
    "robots below, examined on episodes that no training has seen"
)
BESIDE = "; a model fine-tuned on one more stands beside"
SCALING, BEHAVIOR = "evaluate_scaling.*.json", "evaluate_behavior.*.json"
CLOSING = (
    "This page is a function of its inputs: it holds no clock, host or commit. The paper's numbers are quoted from "
    "arXiv 2411.05619; ours are at demo scale on other data."
)


@dataclass(frozen=True)
class ReportInputs:
    """Folders of one profile; `pipeline` is dvc.yaml or its outline, `params` is params.yaml."""

    models: Path
    data: Path
    mix: Path
    evaluation: Path
    metrics: Path
    pipeline: Path
    params: Path


@dataclass(frozen=True)
class Report:
    """`html`: the page; `gif`: one rollout of an unseen episode as a file of its own, empty if there is none."""

    html: str
    gif: bytes


def build_report(inputs: ReportInputs) -> Report:
    """Read everything and lay it out. Raises MissingInputError if an evaluation left no metrics."""
    video, uncertainty = (_metrics(inputs.metrics / f"evaluate_{name}.json") for name in ("video", "uncertainty"))
    found = {f"evaluate_video.{name}": value for name, value in video.items()}
    found |= {f"evaluate_uncertainty.{name}": value for name, value in uncertainty.items()}
    values = _metrics(path) if (path := inputs.metrics / "evaluate_values.json").is_file() else {}
    found |= {f"evaluate_values.{name}": value for name, value in values.items()}
    rows = compare(found)
    films = load_arrays(inputs.evaluation / "video")
    uncertain = load_arrays(inputs.evaluation / "uncertainty")
    roles = {role: inputs.data / role for role in ROLES if (inputs.data / role).is_dir()}
    made = roles | {"mix": inputs.mix, "models": inputs.models, "evaluation": inputs.evaluation}
    tasks = read_tasks(inputs.evaluation, inputs.metrics)
    sections = [
        video_section(films, uncertain),
        comparisons_section(rows, found, video, uncertainty, values),
        uncertainty_section(uncertain),
        *([optimization_section(tasks)] if tasks else []),
        data_section(roles, inputs.mix, inputs.models),
        training_section(inputs.models),
        *_scaling(inputs),
        *_behavior(inputs),
        numbers_section(video, uncertainty),
        pipeline_section(inputs.pipeline, inputs.params),
        lineage_section(made, inputs.models),
        Section("Further", render("further.html")),
    ]
    example = next(iter(uncertain.values()), None)
    moving = rollout_gif(example, 0, scale=3)[0] if example is not None and len(example["imagined"]) else b""
    shards = [path.parent for root in roles.values() for path in sorted((root / "shards").glob("*/manifest.json"))]
    first = first_screen(films, video, uncertainty, shards, inputs.models, profile_of(inputs.params))
    lead = LEAD + (BESIDE if "finetune" in roles else "") + "."
    return Report(page(TITLE, lead, first, sections, CLOSING, is_folded=True), moving)


def _scaling(inputs: ReportInputs) -> list[Section]:
    """No section where a profile compares no sizes."""
    found = {path.stem.partition(".")[2]: _metrics(path) for path in sorted(inputs.metrics.glob(SCALING))}
    arrays = {name: load_arrays(inputs.evaluation / "scaling" / name)["curves"] for name in found}
    return [scaling_section(found, arrays)] if found else []


def _behavior(inputs: ReportInputs) -> list[Section]:
    """No section where no dataset's z is probed."""
    found = {path.stem.partition(".")[2]: _metrics(path) for path in sorted(inputs.metrics.glob(BEHAVIOR))}
    arrays = {name: load_arrays(inputs.evaluation / "behavior" / name) for name in found}
    return [behavior_section(found, arrays)] if found else []


def _metrics(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingInputError("no metrics", file=path, remedy="run the evaluation stages: `dvc repro`")
    return flattened(read_json(path))
