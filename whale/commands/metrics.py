"""`whale metrics`: the claims of the active profile beside their baselines, or every number, one line each."""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands.output import AsJson, print_json, print_table
from whale.commands.profile import flatten
from whale.commands.timings import active_profile
from whale.common.errors import ConfigError, MissingInputError

EXAMPLE = "Example: whale metrics; whale metrics --only psnr"

VIDEO, UNCERTAINTY = "evaluate_video", "evaluate_uncertainty"
# Claim, its metric, its baseline; intervals are shown where a metric has them. {} is role.dataset.split.
CLAIMS = (
    ("tokenizer PSNR, mean image", "tokenizer.psnr", "tokenizer.psnr_mean_image"),
    ("  on changing pixels", "tokenizer.psnr_changing_pixels", "tokenizer.psnr_changing_pixels_mean_image"),
    ("  codes used (share), perplexity", "tokenizer.codes_used_share", "tokenizer.perplexity"),
    (
        "changed tokens right, most frequent",
        "dynamics.full.changed_accuracy",
        "dynamics.full.changed_accuracy_most_frequent",
    ),
    ("nll, copy + unigram", "dynamics.full.nll", "dynamics.full.nll_copy_unigram"),
    ("nll gap of shuffled actions", "dynamics.full.shuffled_action_gap", None),
    ("rollout PSNR h=4, copy last", "dynamics.full.rollout.h4.psnr", "dynamics.full.rollout.h4.psnr_copy_last"),
    ("rollout PSNR h=8, copy last", "dynamics.full.rollout.h8.psnr", "dynamics.full.rollout.h8.psnr_copy_last"),
    ("action-following score (0.5: deaf)", "dynamics.full.actions.score", None),
    ("nll gained by z", "z.nll_gain", None),
    ("PSNR gained by z, h=8", "z.h8.psnr_gain", None),
    ("policy nll, z of another episode", "policy.nll_lagged_prior", "policy.nll_other_episode"),
)
UNCERTAINTY_CLAIMS = (
    ("retracing vs error, Pearson", "retracing.latent.pearson", None),
    ("  within a step", "retracing.latent.within_step.pearson", None),
    ("  per rollout", "retracing.latent.per_rollout.pearson", None),
    ("entropy vs error, Pearson", "entropy.latent.pearson", None),
    ("  within a step", "entropy.latent.within_step.pearson", None),
    ("number of the step vs error", "step.latent.pearson", None),
)


def metrics(
    only: Annotated[str | None, typer.Option(help="Show names that contain this.")] = None, as_json: AsJson = False
) -> None:
    """artifacts/<profile>/metrics/*.json, flattened to dotted names."""
    found = read_metrics(Path("artifacts") / (active_profile() or "demo") / "metrics")
    kept = {name: value for name, value in found.items() if only is None or only in name}
    if only is not None and not kept:
        near = difflib.get_close_matches(only, {part for name in found for part in name.split(".")}, n=3, cutoff=0.4)
        expected = f"a part of a name, such as {', '.join(sorted(near) or list(found)[:1])}"
        raise ConfigError("no metric has such a name", place="--only", found=only, expected=expected)
    if as_json:
        print_json(kept)
        return
    if only is None:
        print_table(*_summary(found))
        for line in _codebook_lines(found):
            print(line)
        print("every number: whale metrics --only ''")
        return
    print_table(["metric", "value"], [[name, _text(value)] for name, value in kept.items()])


def read_metrics(directory: Path) -> dict[str, Any]:
    """{stage.name: value} of every metrics file; MissingInputError when no stage has written one."""
    files = sorted(directory.glob("*.json"))
    if not files:
        raise MissingInputError("no metrics yet", file=directory, remedy="run `make demo`, or `dvc repro`")
    return {name: value for file in files for name, value in flatten(json.loads(file.read_bytes()), file.stem).items()}


def _summary(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a claim and its baseline per row, a dataset split per column."""
    splits = list(dict.fromkeys(".".join(name.split(".")[1:4]) for name in found if ".tokenizer.psnr" in name))
    rows = []
    for stage, claims in ((VIDEO, CLAIMS), (UNCERTAINTY, UNCERTAINTY_CLAIMS)):
        for claim, metric, baseline in claims:
            cells = [_cell(found, f"{stage}.{split}.", metric, baseline) for split in splits]
            rows.append([claim, *cells])
    return ["", *(split.split(".", 1)[-1] for split in splits)], rows


def _codebook_lines(found: dict[str, Any]) -> list[str]:
    """One line per role."""
    from whale.reporting.numbers_section import codebook_line

    lines = {role: codebook_line(found, f"{VIDEO}.{role}") for role in ("pretrain", "finetune")}
    return [f"{role}, {line}" for role, line in lines.items() if line]


def _cell(found: dict[str, Any], prefix: str, metric: str, baseline: str | None) -> str:
    value = found.get(prefix + metric)
    if value is None:
        return "-"
    low, high = (found.get(f"{prefix}{metric}.{end}") for end in ("low", "high"))
    if baseline is None:
        return _short(value) + (f" [{_short(low)}, {_short(high)}]" if low is not None else "")
    return f"{_short(value)} | {_short(found.get(prefix + baseline))}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 10 else _text(value)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
