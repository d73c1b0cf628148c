"""Measured numbers beside their baselines: where ours is worse is marked, counted, and said in one sentence.

A name is stage.role.dataset.split.metric, as in artifacts/<profile>/metrics/*.json flattened. Nothing here knows which
horizons, models and datasets a profile has: rules are patterns, and what matches none but has a baseline is shown too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

Numbers = Mapping[str, Any]
LOWER_IS_BETTER = re.compile(r"(nll|lpips|fvd|mse|error)")  # of a metric's last word
BASELINES = {
    "copy_last": "last frame copied",
    "mean_image": "mean image",
    "most_frequent": "most frequent token",
    "copy_unigram": "copy/unigram",
}
ANY_BASELINE = re.compile(rf"(?P<metric>.+)_(?P<baseline>{'|'.join(BASELINES)})")
BETTER, UNCLEAR, WORSE = "", "~", "!"


@dataclass(frozen=True)
class Rule:
    """`metric`: a pattern; its groups fill `baseline` (another metric, or a constant), `label` and `difference`.

    `difference`: the metric whose 95 % interval says whether ours and the baseline differ at all.
    """

    topic: str
    metric: str
    baseline: str | float
    label: str
    against: str
    difference: str | None = None


MODEL = r"dynamics\.(?P<model>\w+)"
RULES = (
    Rule("reconstruction", r"tokenizer\.psnr", "tokenizer.psnr_mean_image", "tokenizer PSNR (dB)", "mean image"),
    Rule("reconstruction", r"tokenizer\.psnr_changing_pixels", "tokenizer.psnr_changing_pixels_mean_image",
         "tokenizer PSNR, changing pixels (dB)", "mean image"),
    Rule("next tokens", rf"{MODEL}\.changed_accuracy", "dynamics.{model}.changed_accuracy_most_frequent",
         "accuracy on changed tokens", "always most frequent"),
    Rule("next tokens", rf"{MODEL}\.nll", "dynamics.{model}.nll_copy_unigram", "token NLL (nats)", "copy/unigram",
         "dynamics.{model}.nll_gain"),
    Rule("rollout PSNR", rf"{MODEL}\.rollout\.h(?P<h>\d+)\.psnr", "dynamics.{model}.rollout.h{h}.psnr_copy_last",
         "rollout PSNR, {h} steps (dB)", "last frame copied", "dynamics.{model}.rollout.h{h}.psnr_above_copy_last"),
    Rule("rollout SSIM", rf"{MODEL}\.rollout\.h(?P<h>\d+)\.ssim", "dynamics.{model}.rollout.h{h}.ssim_copy_last",
         "rollout SSIM, {h} steps", "last frame copied", "dynamics.{model}.rollout.h{h}.ssim_above_copy_last"),
    Rule("following actions", rf"{MODEL}\.shuffled_action_gap", 0.0, "NLL rise, shuffled actions (nats)", "no effect"),
    Rule("following actions", rf"{MODEL}\.actions\.score", 0.5, "action-following score", "0.5 = ignores actions"),
    Rule("following actions", rf"{MODEL}\.actions\.(?P<which>permuted|negated|zeroed)\.changed_nll_gap", 0.0,
         "NLL rise, actions {which} (nats)", "no effect"),
    Rule("following actions", rf"{MODEL}\.actions\.(?P<which>\w+)\.changed_nll_gap", 0.0,
         "NLL rise, {which} zeroed (nats)", "no effect"),
    Rule("behavior embedding z", r"z\.nll_gain", 0.0, "token NLL without z minus with (nats)", "no gain"),
    Rule("behavior embedding z", r"z\.h(?P<h>\d+)\.psnr_gain", 0.0, "PSNR with z minus without, {h} steps (dB)",
         "no gain"),
    Rule("behavior embedding z", r"policy\.nll_lagged_prior", "policy.nll_other_episode", "policy NLL (nats)",
         "z of another episode", "policy.gain_lagged_prior_over_other_episode"),
    Rule("behavior embedding z", r"policy\.gain_lagged_prior_over_zeros", 0.0, "policy NLL without z minus with (nats)",
         "no gain"),
    Rule("uncertainty", r"(?P<score>(?!step)\w+)\.latent\.pearson", "step.latent.pearson",
         "{score} against error, Pearson", "number of the step"),
    Rule("uncertainty", r"(?P<score>(?!step)\w+)\.latent\.within_step\.pearson", 0.0, "{score}, within a step",
         "no relation"),
    Rule("uncertainty", r"(?P<score>(?!step)\w+)\.latent\.per_rollout\.pearson", 0.0, "{score}, per rollout",
         "no relation"),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    ours: float
    baseline: float
    outcome: str  # BETTER, UNCLEAR or WORSE


@dataclass(frozen=True)
class Comparison:
    """One metric and its baseline, measured on some splits (role.dataset.split)."""

    topic: str
    label: str
    against: str
    model: str | None
    cells: Mapping[str, Cell]

    def count(self, outcome: str) -> int:
        return sum(cell.outcome == outcome for cell in self.cells.values())


def compare(found: Numbers) -> list[Comparison]:
    """Every comparison that `found` allows; those with the most worse cells come first, else in the order of RULES."""
    rows: dict[tuple[int, str, str], Comparison] = {}
    for name in found:
        if (split := _split_of(name)) is None:
            continue
        for place, row in _rows_of(name, split, found):
            known = rows.get(place)
            rows[place] = row if known is None else Comparison(
                row.topic, row.label, row.against, row.model, {**known.cells, **row.cells})  # fmt: skip
    in_order = [rows[place] for place in sorted(rows, key=lambda place: place[0])]
    return sorted(in_order, key=lambda row: (-row.count(WORSE), -row.count(UNCLEAR)))


def splits_of(rows: Iterable[Comparison]) -> list[str]:
    """role.dataset.split of every cell, those of pre-training first."""
    return sorted({split for row in rows for split in row.cells}, key=lambda name: (name[:8] != "pretrain", name))


def verdict(rows: Iterable[Comparison]) -> list[str]:
    """How many comparisons are worse than their baseline, what works, and what does not yet."""
    rows = list(rows)
    total = sum(len(row.cells) for row in rows)
    worse, unclear = (sum(row.count(outcome) for row in rows) for outcome in (WORSE, UNCLEAR))
    works, fails = list[str](), list[str]()
    for topic in dict.fromkeys([rule.topic for rule in RULES]):
        own = [row for row in rows if row.topic == topic]
        cells, good = sum(len(row.cells) for row in own), sum(row.count(BETTER) for row in own)
        if own and good == cells:
            works.append(topic)
        elif own:
            fails.append(f"{topic} ({good} of {cells})")
    return [
        f"{worse} of {total} comparisons are worse than their baseline ({WORSE}); {unclear} are too close to call"
        f" ({UNCLEAR}: the 95 % interval holds the baseline).",
        f"Works on every dataset: {', '.join(works) or 'nothing'}. "
        f"Does not yet (better than the baseline in): {', '.join(fails) or 'nothing'}.",
    ]


def _split_of(name: str) -> str | None:
    """role.dataset.split; None for what is of a whole role, and for texts such as a protocol."""
    words = name.split(".")
    return ".".join(words[1:4]) if len(words) > 4 else None


def _rows_of(name: str, split: str, found: Numbers) -> Iterable[tuple[tuple[int, str, str], Comparison]]:
    prefix, _, metric = name.partition(f"{split}.")
    prefix += f"{split}."
    for number, rule in enumerate(RULES):
        if match := re.fullmatch(rule.metric, metric):
            groups = match.groupdict()
            baseline = rule.baseline.format(**groups) if isinstance(rule.baseline, str) else rule.baseline
            difference = rule.difference.format(**groups) if rule.difference else None
            cell = _cell(found, prefix, metric, baseline, difference)
            label = rule.label.format(**groups)
            order = number * 1000 + int(groups.get("h") or 0)
            row = _row(rule.topic, label, rule.against, groups.get("model"), split, cell)
            return [((order, row.label, row.against), row)] if cell else []
    if match := ANY_BASELINE.fullmatch(metric):
        metric, kind = match["metric"], match["baseline"]
        if not any(re.fullmatch(rule.metric, metric) for rule in RULES):
            cell = _cell(found, prefix, metric, f"{metric}_{kind}", f"{metric}_above_{kind}")
            model = re.match(MODEL, metric)
            row = _row("others", metric, BASELINES[kind], model["model"] if model else None, split, cell)
            return [((len(RULES) * 1000, row.label, row.against), row)] if cell else []
    return []


def _row(topic: str, label: str, against: str, model: str | None, split: str, cell: Cell | None) -> Comparison:
    if model not in (None, "full") and topic != "others":  # whose label is the whole name
        label = f"{label}, {str(model).replace('_', ' ')}"
    return Comparison(topic, label, against, model, {split: cell} if cell else {})


def _cell(found: Numbers, prefix: str, metric: str, baseline: str | float, difference: str | None) -> Cell | None:
    """None where one of both was not measured."""
    ours = found.get(prefix + metric)
    other = found.get(prefix + baseline) if isinstance(baseline, str) else baseline
    if not _is_number(ours) or not _is_number(other):
        return None
    zero = baseline if isinstance(baseline, float) else 0.0
    low, high = (found.get(f"{prefix}{difference or metric}.{end}") for end in ("low", "high"))
    has_interval = isinstance(baseline, float) or difference is not None
    if has_interval and _is_number(low) and _is_number(high) and low <= zero <= high:
        return Cell(ours, other, UNCLEAR)
    lower = LOWER_IS_BETTER.match(metric.rpartition(".")[2]) is not None and isinstance(baseline, str)
    return Cell(ours, other, WORSE if (ours > other if lower else ours < other) else BETTER)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
