"""The report: one self-contained page made of finished results. Equal inputs give equal bytes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.errors import MissingInputError
from whale.evaluation.measuring.metrics import flattened
from whale.reporting.comparisons import Comparison, compare
from whale.reporting.comparisons_section import comparisons_section, means
from whale.reporting.data_section import data_section
from whale.reporting.lineage_section import lineage_section
from whale.reporting.measured import Numbers, horizons_of
from whale.reporting.numbers_section import ROLES, numbers_section
from whale.reporting.page import Section, Tile, page, render
from whale.reporting.pipeline_section import pipeline_section
from whale.reporting.training_section import training_section
from whale.reporting.uncertainty_section import uncertainty_section
from whale.reporting.video_section import load_arrays, rollout_gif, video_section

TITLE = "WHALE: a world model and where it came from"
LEAD = (
    "Robot episodes in, an evaluated world model out: tokenizer, behavior embedding and dynamics, trained on several "
    "robots, fine-tuned on one more, examined on episodes that no training has seen."
)
CLOSING = (
    "This page is a function of its inputs: it holds no clock, host or commit. The paper's numbers are quoted from "
    "arXiv 2411.05619; ours are at demo scale on other data."
)
KEY_FIGURES = [
    ("tokenizer.psnr", "mean image"),
    ("dynamics.full.changed_accuracy", "always most frequent"),
    ("dynamics.full.rollout.{h}.psnr", "last frame copied"),
    ("dynamics.full.rollout.{h}.ssim", "last frame copied"),
    ("retracing.latent.pearson", "number of the step"),
]  # of the longest horizon


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
    sections = [
        video_section(films, uncertain),
        comparisons_section(rows, found, video, uncertainty, values),
        uncertainty_section(uncertain),
        data_section(roles, inputs.mix, inputs.models),
        training_section(inputs.models),
        numbers_section(video, uncertainty),
        pipeline_section(inputs.pipeline, inputs.params),
        lineage_section(made, inputs.models),
        Section("Further", render("further.html")),
    ]
    first = next(iter(uncertain.values()), None)
    moving = rollout_gif(first, 0, scale=3)[0] if first is not None and len(first["imagined"]) else b""
    return Report(page(TITLE, LEAD, _tiles(rows, found), sections, CLOSING), moving)


def _tiles(rows: list[Comparison], found: Numbers) -> list[Tile]:
    """Key figures, means over the pre-training robots' unseen episodes, as far as they were measured."""
    horizon = (horizons_of(found) or ["h1"])[-1]
    by_name = {(row.metric, row.against): row for row in rows if row.of("pretrain").cells}
    keys = [(metric.format(h=horizon), against) for metric, against in KEY_FIGURES]
    return [_tile(by_name[key], found) for key in keys if key in by_name]


def _tile(row: Comparison, found: Numbers) -> Tile:
    each = means(row, "pretrain", found)
    note = f"{row.against}: {each.baseline}; better on {each.better}"
    return Tile(each.ours, row.label, note, each.css == "worse")


def _metrics(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingInputError("no metrics", file=path, remedy="run the evaluation stages: `dvc repro`")
    return flattened(json.loads(path.read_text()))
