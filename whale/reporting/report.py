"""The report: one self-contained page made of finished results. Equal inputs give equal bytes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.errors import MissingInputError
from whale.reporting.comparisons_section import comparisons_section
from whale.reporting.data_section import data_section
from whale.reporting.lineage_section import lineage_section
from whale.reporting.measured import Numbers, group_mean, horizons_of
from whale.reporting.numbers_section import numbers_section
from whale.reporting.page import Section, Tile, number, page, render
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


@dataclass(frozen=True)
class ReportInputs:
    """Folders of one profile; `pipeline` is dvc.yaml or its outline, `params` is params.yaml."""

    models: Path
    pretrain: Path
    finetune: Path
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
    films = load_arrays(inputs.evaluation / "video")
    uncertain = load_arrays(inputs.evaluation / "uncertainty")
    roles = {"pretrain": inputs.pretrain, "finetune": inputs.finetune}
    made = roles | {"mix": inputs.mix, "models": inputs.models, "evaluation": inputs.evaluation}
    sections = [
        video_section(films, uncertain),
        comparisons_section(video, uncertainty),
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
    return Report(page(TITLE, LEAD, _tiles(video, uncertainty), sections, CLOSING), moving)


def _tiles(video: Numbers, uncertainty: Numbers) -> list[Tile]:
    """Key figures, means over the pre-training robots' unseen episodes."""
    horizon = (horizons_of(video) or ["h1"])[-1]
    dynamics, rollout = "dynamics.full", f"dynamics.full.rollout.{horizon}"
    steps = f"{horizon[1:]} steps ahead"
    pairs = [
        (video, "tokenizer PSNR, unseen episodes", "tokenizer.psnr", "mean image", "tokenizer.psnr_mean_image"),
        (video, "accuracy on changed tokens", f"{dynamics}.changed_accuracy", "always most frequent",
         f"{dynamics}.changed_accuracy_most_frequent"),
        (video, f"rollout PSNR, {steps}", f"{rollout}.psnr", "still image", f"{rollout}.psnr_copy_last"),
        (video, f"rollout SSIM, {steps}", f"{rollout}.ssim", "still image", f"{rollout}.ssim_copy_last"),
        (uncertainty, "retracing vs true error (r)", "retracing.latent.pearson", "number of the step",
         "step.latent.pearson"),
    ]  # fmt: skip
    return [_tile(*pair) for pair in pairs]


def _tile(numbers: Numbers, label: str, metric: str, baseline_label: str, baseline: str) -> Tile:
    """A figure of which more is better, beside its baseline; PSNR is in dB."""
    digits, unit = (1, " dB") if "psnr" in metric else (3, "")
    ours, other = (group_mean(numbers, "pretrain", each) for each in (metric, baseline))
    value, note = (number(each, digits) + (unit if each is not None else "") for each in (ours, other))
    is_worse = ours is not None and other is not None and ours < other
    return Tile(value, label, f"{'worse than ' if is_worse else ''}{baseline_label}: {note}", is_worse)


def _metrics(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingInputError("no metrics", file=path, remedy="run the evaluation stages: `dvc repro`")
    return json.loads(path.read_text())
