"""Measured numbers beside their baselines: where ours is worse is marked, counted, and said in one sentence.

`whale metrics` and the page show these rows. The standard library alone is imported: `whale` must start fast.
A name is stage.role.dataset.split.metric, as in artifacts/<profile>/metrics/*.json flattened. Nothing here knows which
horizons, models and datasets a profile has: rules are patterns, and what matches none but has a baseline is shown too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

Numbers = Mapping[str, Any]
LOWER_IS_BETTER = re.compile(r"(nll|lpips|percep|fvd|mse|error|value_gap|regret)")  # of a metric's last word
BASELINES = {
    "copy_last": "last frame copied",
    "mean_image": "mean image",
    "most_frequent": "most frequent token",
    "copy_unigram": "copy/unigram",
}
FIRST = ("end effector", "rollout SSIM", "rollout PSNR", "moving pixels", "flicker", "train/test gap")  # shown first
BETTER, UNCLEAR, WORSE = "", "~", "!"


@dataclass(frozen=True)
class Rule:
    """`metric`: a pattern; its groups fill `baseline` (another metric, or a constant), `label` and `difference`.

    `difference`: the metric whose 95 % interval says whether ours and the baseline differ at all; `metric` itself where
    the difference was not measured, as for a constant: then the interval of ours must not hold the baseline.
    """

    topic: str
    metric: str
    baseline: str | float
    label: str
    against: str
    difference: str | None = None
    lower: bool = False  # ours is better below a constant


METHOD = r"(?P<score>retracing|disagreement|entropy|ensemble)"  # the other scores are what they have to beat
MODEL = r"dynamics\.(?P<model>\w+)"
LEAD = r"rssm\.(?P<model>\w+)\.full_lead\.h(?P<h>\d+)"  # paired differences: above 0 ours is better
RSSM = "a recurrent model (RSSM)"
RULES = (
    Rule("end effector", rf"{MODEL}\.rollout\.h(?P<h>\d+)\.ee", 1.0, "end-effector error, {h} steps",
         "standing still = 1", lower=True),
    Rule("moving pixels", rf"{MODEL}\.rollout\.h(?P<h>\d+)\.psnr_moving",
         "dynamics.{model}.rollout.h{h}.psnr_moving_copy_last", "PSNR on moving pixels, {h} steps (dB)",
         "last frame copied", "dynamics.{model}.rollout.h{h}.psnr_moving_above_copy_last"),
    Rule("objects", rf"{MODEL}\.rollout\.h(?P<h>\d+)\.objects_kept",
         "dynamics.{model}.rollout.h{h}.objects_kept_copy_last", "coloured objects kept, {h} steps",
         "last frame copied", "dynamics.{model}.rollout.h{h}.objects_kept_above_copy_last"),
    Rule("flicker", r"tokenizer\.flicker", 0.02, "still patches whose token changes", "at most 0.02", lower=True),
    Rule("train/test gap", rf"{MODEL}\.nll_gap", 0.1, "token NLL, test minus train (nats)", "at most 0.1", lower=True),
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
    Rule("rollout percep-efflite0", rf"{MODEL}\.rollout\.h(?P<h>\d+)\.percep_efflite0",
         "dynamics.{model}.rollout.h{h}.percep_efflite0_copy_last", "percep-efflite0, {h} steps", "last frame copied",
         "dynamics.{model}.rollout.h{h}.percep_efflite0_below_copy_last"),
    Rule("rollout percep-efflite0", rf"{MODEL}\.rollout\.percep_efflite0",
         "dynamics.{model}.rollout.percep_efflite0_copy_last", "percep-efflite0, all steps", "last frame copied",
         "dynamics.{model}.rollout.percep_efflite0_below_copy_last"),
    Rule("following actions", rf"{MODEL}\.shuffled_action_gap", 0.0, "NLL rise, shuffled actions (nats)", "no effect"),
    Rule("following actions", rf"{MODEL}\.actions\.score", 0.5, "action-following score", "0.5 = ignores actions"),
    Rule("following actions", rf"{MODEL}\.actions\.(?P<which>permuted|negated|zeroed)\.changed_nll_gap", 0.0,
         "NLL rise, actions {which} (nats)", "no effect"),
    Rule("following actions", rf"{MODEL}\.actions\.(?P<which>(?!permuted|negated|zeroed)\w+)\.changed_nll_gap", 0.0,
         "NLL rise, {which} zeroed (nats)", "no effect"),
    Rule("transfer", r"dynamics\.full\.rollout\.h(?P<h>\d+)\.psnr", "dynamics.from_scratch.rollout.h{h}.psnr",
         "rollout PSNR, {h} steps (dB)", "trained from scratch", "dynamics.full.rollout.h{h}.psnr"),
    Rule("behavior embedding z", r"z\.nll_gain", 0.0, "token NLL without z minus with (nats)", "no gain"),
    Rule("behavior embedding z", r"dynamics\.full\.rollout\.h(?P<h>\d+)\.psnr", "dynamics.without_z.rollout.h{h}.psnr",
         "rollout PSNR, {h} steps (dB)", "without z", "z.h{h}.psnr_gain"),
    Rule("behavior embedding z", r"policy\.nll_lagged_prior", "policy.nll_other_episode", "policy NLL (nats)",
         "z of another episode", "policy.gain_lagged_prior_over_other_episode"),
    Rule("behavior embedding z", r"policy\.nll_lagged_prior", "policy.nll_zeros", "policy NLL (nats)", "without z",
         "policy.gain_lagged_prior_over_zeros"),
    Rule("another family", rf"{LEAD}\.psnr", 0.0, "rollout PSNR lead, {h} steps (dB)", RSSM),
    Rule("another family", rf"{LEAD}\.psnr_moving", 0.0, "lead on moving pixels, {h} steps (dB)", RSSM),
    Rule("another family", rf"{LEAD}\.ssim", 0.0, "rollout SSIM lead, {h} steps", RSSM),
    Rule("another family", rf"{LEAD}\.ee", 0.0, "end-effector lead, {h} steps (m)", RSSM),
    Rule("uncertainty", rf"{METHOD}\.latent\.pearson", "step.latent.pearson",
         "{score} against error, Pearson", "number of the step"),
    Rule("uncertainty", rf"{METHOD}\.latent\.within_step\.pearson", 0.0, "{score}, within a step",
         "no relation"),
    Rule("uncertainty", rf"{METHOD}\.latent\.per_rollout\.pearson", 0.0, "{score}, per rollout",
         "no relation"),
    Rule("uncertainty", r"retracing\.latent\.within_step\.pearson", "entropy.latent.within_step.pearson",
         "retracing, within a step", "entropy", "retracing.latent.minus_entropy.within_step.pearson"),
    Rule("uncertainty", r"retracing\.latent\.per_rollout\.pearson", "entropy.latent.per_rollout.pearson",
         "retracing, per rollout", "entropy", "retracing.latent.minus_entropy.per_rollout.pearson"),
    Rule("uncertainty", r"retracing\.latent\.per_rollout\.pearson", "moved.latent.per_rollout.pearson",
         "retracing, per rollout", "how far it moved", "retracing.latent.minus_moved.per_rollout.pearson"),
    Rule("values", r"mean\.full\.h(?P<h>\d+)\.r2", 0.0, "rewards explained (R^2), {h} steps",
         "0 = model too weak for values"),
    Rule("values", r"mean\.full\.h(?P<h>\d+)\.value_gap", "mean.guess.h{h}.value_gap",
         "value gap, {h} steps", "the best constant", "mean.full.h{h}.value_gap"),
    Rule("values", r"mean\.full\.h(?P<h>\d+)\.(?P<kind>pearson|spearman)",
         "mean.first_frame.h{h}.{kind}", "return correlation ({kind}), {h} steps", "first frame repeated",
         "mean.full.h{h}.{kind}"),
    Rule("values", r"mean\.full\.h(?P<h>\d+)\.regret_at_(?P<k>\d+)", "mean.guess.h{h}.regret_at_{k}",
         "regret@{k}, {h} steps", "a random choice", "mean.full.h{h}.regret_at_{k}"),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    name: str  # of ours
    ours: float
    baseline: float
    outcome: str  # BETTER, UNCLEAR or WORSE


@dataclass(frozen=True)
class Comparison:
    """One metric and its baseline, measured on some splits (role.dataset.split)."""

    topic: str
    metric: str
    label: str
    against: str
    cells: Mapping[str, Cell]

    def count(self, outcome: str) -> int:
        return sum(cell.outcome == outcome for cell in self.cells.values())

    def of(self, role: str) -> "Comparison":
        """On the splits of a role alone."""
        return replace(self, cells={split: cell for split, cell in self.cells.items() if split.startswith(f"{role}.")})


def compare(found: Numbers, every: bool = False) -> list[Comparison]:
    """What `found` allows; the topics FIRST, then the others; of both the worst first, else by RULES.

    `every`: of all models, not only of `full`.
    """
    rows: dict[tuple[int, int, Rule], dict[str, Cell]] = {}
    for name in found:
        words = name.split(".")
        split, metric = ".".join(words[1:4]), ".".join(words[4:])
        if words[4:5] == ["dynamics"] and words[5:6] != ["full"] and not every:
            continue
        if words[4:5] == ["rssm"] and words[6:7] != ["full_lead"] and not every:  # how it fares is not how ours does
            continue
        for place in _rules_of(metric) if metric else ():  # else it is of a whole role
            if cell := _cell(found, name, place[-1]):
                rows.setdefault(place, {})[split] = cell
    in_order = [
        Comparison(rule.topic, rule.metric, rule.label, rule.against, rows[number, step, rule])
        for number, step, rule in sorted(rows, key=lambda place: (*place[:2], place[-1].label))
    ]
    return sorted(in_order, key=lambda row: (row.topic not in FIRST, -row.count(WORSE), -row.count(UNCLEAR)))


def unjudged(found: Numbers) -> list[str]:
    """A sentence if end-effector errors were measured by a probe that cannot judge them; they are no comparison."""
    weak = sorted({name.split(".")[2] + f" ({name.split('.')[-2]})" for name in found if name.endswith(".ee_unjudged")})
    return [f"End-effector error not judged, the probe is too weak: {', '.join(weak)}."] if weak else []


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


def short(value: object) -> str:
    """A number as the command and the page print it."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.4g}"


def _rules_of(metric: str) -> Iterator[tuple[int, int, Rule]]:
    """The rules of a metric with their groups filled in, after their number and horizon: the order of rows."""
    is_known = False
    for number, rule in enumerate(RULES):
        if match := re.fullmatch(rule.metric, metric):
            is_known, groups = True, match.groupdict()
            label = rule.label.format(**groups)
            if groups.get("model", "full") != "full":
                label += f", {groups['model'].replace('_', ' ')}"
            baseline = rule.baseline.format(**groups) if isinstance(rule.baseline, str) else rule.baseline
            difference = rule.difference and rule.difference.format(**groups)
            filled = Rule(rule.topic, metric, baseline, label, rule.against, difference, rule.lower)
            yield number, int(groups.get("h", 0)), filled
    for kind, against in BASELINES.items() if not is_known else ():
        yield len(RULES), 0, Rule("others", metric, f"{metric}_{kind}", metric, against, f"{metric}_above_{kind}")


def _cell(found: Numbers, name: str, rule: Rule) -> Cell | None:
    """None where one of both was not measured."""
    prefix, is_constant = name.removesuffix(rule.metric), not isinstance(rule.baseline, str)
    ours, other = found.get(name), rule.baseline if is_constant else found.get(f"{prefix}{rule.baseline}")
    if not _is_number(ours) or not _is_number(other):
        return None
    if difference := rule.metric if is_constant else rule.difference:
        low, high = (found.get(f"{prefix}{difference}.{end}") for end in ("low", "high"))
        if _is_number(low) and _is_number(high) and low <= (other if difference == rule.metric else 0) <= high:
            return Cell(name, ours, other, UNCLEAR)
    lower = rule.lower or (LOWER_IS_BETTER.match(rule.metric.rpartition(".")[2]) is not None and not is_constant)
    return Cell(name, ours, other, WORSE if (ours > other if lower else ours < other) else BETTER)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
