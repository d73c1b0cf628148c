"""The report: one self-contained page made of finished results. Equal inputs give equal bytes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.errors import MissingInputError
from whale.reporting.dag import draw, read_stages
from whale.reporting.data_section import data_section
from whale.reporting.html import Section, number, page, paragraph, tile, tiles, wide
from whale.reporting.lineage_section import lineage_section
from whale.reporting.numbers_section import group_mean, horizons_of, numbers_section
from whale.reporting.training_section import training_section
from whale.reporting.uncertainty_section import uncertainty_section
from whale.reporting.video_section import load_arrays, rollout_gif, video_section

TITLE = "WHALE: a world model and where it came from"
LEAD = (
    "Robot episodes in, an evaluated world model out: tokenizer, behavior embedding and dynamics, trained on "
    "several robots, "
    "fine-tuned on one more, examined on episodes that no training has seen."
)
CLOSING = (
    "This page is a function of its inputs: it holds no clock, host or commit. The paper's numbers are quoted from "
    "arXiv 2411.05619; ours are at demo scale on other data."
)


@dataclass(frozen=True)
class ReportInputs:
    """Folders of one profile; `pipeline` is dvc.yaml, `params` is params.yaml."""

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
    sections = [
        video_section(films, uncertain),
        numbers_section(video, uncertainty),
        uncertainty_section(uncertain),
        data_section(roles, inputs.mix, inputs.models),
        training_section(inputs.models),
        _pipeline(inputs.pipeline, inputs.params),
        lineage_section(
            roles | {"mix": inputs.mix, "models": inputs.models, "evaluation": inputs.evaluation}, inputs.models
        ),
    ]
    first = next(iter(uncertain.values()), None)
    moving = rollout_gif(first, 0, scale=3)[0] if first is not None and len(first["imagined"]) else b""
    return Report(page(TITLE, LEAD, _tiles(video, uncertainty), sections, CLOSING), moving)


def _tiles(video: dict[str, Any], uncertainty: dict[str, Any]) -> str:
    """Four key figures, means over the pre-training robots' unseen episodes."""

    def mean(numbers: dict[str, Any], metric: str) -> float | None:
        return group_mean(numbers, "pretrain", metric)

    horizon = (horizons_of(video) or ["h1"])[-1]
    rollout = f"dynamics.full.rollout.{horizon}"
    return tiles(
        [
            tile(f"{number(mean(video, 'tokenizer.psnr'), 1)} dB", "tokenizer PSNR, unseen episodes",
                 f"mean image {number(mean(video, 'tokenizer.psnr_mean_image'), 1)}"),
            tile(number(mean(video, "dynamics.full.changed_accuracy"), 3), "accuracy on changed tokens",
                 f"most frequent code {number(mean(video, 'dynamics.full.changed_accuracy_most_frequent'), 3)}"),
            tile(f"{number(mean(video, f'{rollout}.psnr'), 1)} dB", f"rollout PSNR, {horizon[1:]} steps ahead",
                 f"copy last frame {number(mean(video, f'{rollout}.psnr_copy_last'), 1)}"),
            tile(number(mean(uncertainty, "retracing.latent.within_step.pearson"), 2),
                 "retracing vs true error, within a step (r)",
                 f"pooled over steps {number(mean(uncertainty, 'retracing.latent.pearson'), 2)}; "
                 f"entropy {number(mean(uncertainty, 'entropy.latent.within_step.pearson'), 2)}, "
                 f"{number(mean(uncertainty, 'entropy.latent.pearson'), 2)}"),
        ]
    )  # fmt: skip


def _pipeline(path: Path, params: Path) -> Section:
    lead = (
        "What makes what, drawn from dvc.yaml. A box with a shadow runs once per dataset or variant; "
        "arrows that follow from others are left out."
    )
    return Section("Pipeline", paragraph(lead, "soft") + wide(draw(read_stages(path, params))))


def _metrics(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingInputError("no metrics", file=path, remedy="run the evaluation stages: `dvc repro`")
    return json.loads(path.read_text())
