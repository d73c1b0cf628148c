"""How good it is: every number beside its baseline, the bad ones first, then beside the paper's."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from whale.reporting.measured import Numbers, group_mean, groups_of, horizons_of
from whale.reporting.page import Section, number, render

ROLES = {"pretrain": "pre-training robots", "finetune": "the unseen robot"}
STATUS = "demo scale, other data: not comparable"


@dataclass(frozen=True)
class Comparison:
    """`baseline`: the metric of what costs nothing, or a constant. `{h}` in names stands for every horizon."""

    label: str
    metric: str
    baseline_label: str
    baseline: str | float
    digits: int = 2
    is_lower_better: bool = False

    def at(self, horizon: str) -> "Comparison":
        """For one of `h1`, `h4`, ..."""
        names = {name: getattr(self, name).replace("{h}", horizon) for name in ("metric", "baseline")}
        return replace(self, label=self.label.replace("{h}", horizon[1:]), **names)


@dataclass(frozen=True)
class Outcome:
    """Means over the robots of a role; `better`: on how many `of` them ours is better than the baseline."""

    comparison: Comparison
    role: str
    ours: float
    baseline: float
    better: int
    of: int

    @property
    def mark(self) -> str:
        """Class of the page's style: "worse" where most robots are worse than the baseline."""
        return "worse" if 2 * self.better < self.of else "better" if self.better == self.of else ""


_ROLLOUT = "dynamics.full.rollout.{h}"
VIDEO = [
    Comparison("rollout SSIM, {h} steps ahead", f"{_ROLLOUT}.ssim", "still image", f"{_ROLLOUT}.ssim_copy_last", 3),
    Comparison("rollout PSNR (dB), {h} steps ahead", f"{_ROLLOUT}.psnr", "still image", f"{_ROLLOUT}.psnr_copy_last"),
    Comparison(
        "rollout PSNR (dB), {h} steps ahead", f"{_ROLLOUT}.psnr", "without z", "dynamics.without_z.rollout.{h}.psnr"
    ),
    Comparison(
        "rollout PSNR (dB), {h} steps ahead",
        f"{_ROLLOUT}.psnr",
        "trained from scratch",
        "dynamics.from_scratch.rollout.{h}.psnr",
    ),
    Comparison(
        "token NLL (nats)", "dynamics.full.nll", "copy/unigram baseline", "dynamics.full.nll_copy_unigram", 3, True
    ),
    Comparison(
        "accuracy on changed tokens", "dynamics.full.changed_accuracy", "always most frequent",
        "dynamics.full.changed_accuracy_most_frequent", 3,
    ),
    Comparison("token NLL gained by z (nats)", "z.nll_gain", "no gain", 0.0, 4),
    Comparison("action-following score", "dynamics.full.actions.score", "ignores actions", 0.5, 3),
    Comparison("policy NLL, z of the lagged prior", "policy.nll_lagged_prior", "no z", "policy.nll_zeros", 2, True),
    Comparison("tokenizer PSNR (dB)", "tokenizer.psnr", "mean image", "tokenizer.psnr_mean_image"),
]  # fmt: skip
UNCERTAINTY = [
    Comparison(
        "retracing vs true error, pooled (r)", "retracing.latent.pearson", "number of the step", "step.latent.pearson"
    ),
    Comparison(
        "retracing vs true error, within a step (r)", "retracing.latent.within_step.pearson", "entropy",
        "entropy.latent.within_step.pearson",
    ),
]  # fmt: skip
PAPER_TOKENS = [
    # (what, the paper's model, its value, our keys' group and metric, scale, digits); arXiv 2411.05619, Tables 2-4
    ("PSNR (dB)", "Whale-ST, 64 x 64, horizon 64", 28.8, "pretrain", "dynamics.full.rollout.{h}.psnr", 1, 1),
    ("SSIM x 100", "Whale-ST, 64 x 64, horizon 64", 93.5, "pretrain", "dynamics.full.rollout.{h}.ssim", 100, 1),
    ("LPIPS x 100", "Whale-ST, 64 x 64", 3.7, "pretrain", "dynamics.full.rollout.lpips", 100, 1),
    ("FVD", "Whale-ST, 64 x 64", 38.5, "pretrain", "dynamics.full.rollout.fvd", 1, 1),
    ("correlation, retracing, pooled", "5 tasks, 8 steps", 0.55, "uncertainty", "retracing.latent.pearson", 1, 2),
    ("- within a step", "not said", None, "uncertainty", "retracing.latent.within_step.pearson", 1, 2),
    ("- per rollout", "not said", None, "uncertainty", "retracing.latent.per_rollout.pearson", 1, 2),
    ("correlation, entropy, pooled", "5 tasks, 8 steps", 0.35, "uncertainty", "entropy.latent.pearson", 1, 2),
    ("- within a step", "not said", None, "uncertainty", "entropy.latent.within_step.pearson", 1, 2),
    ("- per rollout", "not said", None, "uncertainty", "entropy.latent.per_rollout.pearson", 1, 2),
    ("correlation, ensemble, pooled", "5 tasks, 8 steps", 0.10, "uncertainty", "ensemble.latent.pearson", 1, 2),
    (
        "PSNR, fine-tuned (dB)",
        "Whale-X-base, unseen real tasks",
        22.3,
        "finetune",
        "dynamics.full.rollout.{h}.psnr",
        1,
        1,
    ),
    ("PSNR, fine-tuned, without z", "X-base w/o bc", 21.4, "finetune", "dynamics.without_z.rollout.{h}.psnr", 1, 1),
    ("PSNR, from scratch", "X-base from scratch", 20.0, "finetune", "dynamics.from_scratch.rollout.{h}.psnr", 1, 1),
    (
        "SSIM x 100, fine-tuned",
        "Whale-X-base, unseen real tasks",
        80.5,
        "finetune",
        "dynamics.full.rollout.{h}.ssim",
        100,
        1,
    ),
]
PAPER_ONLY = [
    ("value gap", "Whale-ST, 64 x 64", "10.3", "not measured yet"),
    ("return correlation", "Whale-ST, 64 x 64", "0.77", "not measured yet"),
]


def comparisons_section(video: Numbers, uncertainty: Numbers) -> Section:
    """`video`, `uncertainty`: the flat metrics of the two evaluation stages."""
    found = [*outcomes(video, VIDEO), *outcomes(uncertainty, UNCERTAINTY)]
    found.sort(key=lambda each: each.better / each.of)
    rows = [
        {
            "what": each.comparison.label,
            "robots": ROLES[each.role],
            "ours": number(each.ours, each.comparison.digits),
            "baseline": number(each.baseline, each.comparison.digits),
            "baseline_label": each.comparison.baseline_label,
            "better": f"{each.better} of {each.of}",
            "mark": each.mark,
        }
        for each in found
    ]
    num_worse = sum(each.mark == "worse" for each in found)
    body = render("comparisons.html", rows=rows, num_worse=num_worse, paper=_paper(video, uncertainty))
    return Section("Comparisons", body)


def outcomes(numbers: Numbers, comparisons: Iterable[Comparison]) -> Iterator[Outcome]:
    """One for each role in which both sides were measured, at each horizon."""
    horizons = horizons_of(numbers)
    for each in comparisons:
        for one in [each.at(horizon) for horizon in horizons] if "{h}" in each.metric else [each]:
            for role in ROLES:
                if outcome := _outcome(numbers, one, role):
                    yield outcome


def _outcome(numbers: Numbers, comparison: Comparison, role: str) -> Outcome | None:
    pairs = []
    for group in groups_of(numbers, role):
        ours = numbers.get(f"{group}.{comparison.metric}")
        constant = not isinstance(comparison.baseline, str)
        other = comparison.baseline if constant else numbers.get(f"{group}.{comparison.baseline}")
        if isinstance(ours, (int, float)) and isinstance(other, (int, float)):
            pairs.append((ours, other))
    mean = group_mean(numbers, role, comparison.metric)
    if not pairs or mean is None:
        return None
    better = sum(ours < other if comparison.is_lower_better else ours > other for ours, other in pairs)
    return Outcome(comparison, role, mean, sum(other for _, other in pairs) / len(pairs), better, len(pairs))


def _paper(video: Numbers, uncertainty: Numbers) -> list[list[str]]:
    """Rows: metric, the paper's model and setting, status, the paper's value, ours."""
    horizons = horizons_of(video)
    rows = []
    for what, paper_model, paper, role, metric, scale, digits in PAPER_TOKENS:
        source, place = (uncertainty, "pretrain") if role == "uncertainty" else (video, role)
        value = group_mean(source, place, metric.format(h=horizons[-1] if horizons else "h"))
        at = f", horizon {horizons[-1][1:]}" if "{h}" in metric and horizons else ""
        status = _why_not(source, place, metric) if value is None else STATUS
        ours = number(None if value is None else value * scale, digits)
        rows.append([f"{what}{at}", paper_model, status, number(paper, digits), ours])
    return rows + [[what, model, status, value, number(None)] for what, model, value, status in PAPER_ONLY]


def _why_not(numbers: Numbers, role: str, metric: str) -> str:
    """What the evaluation itself says about a metric that has no value."""
    said = {str(numbers[key]) for group in groups_of(numbers, role) if (key := f"{group}.{metric}.status") in numbers}
    return "; ".join(sorted(said)) or "not measured"
