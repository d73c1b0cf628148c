"""How good it is: the comparisons of `whale metrics` as means over robots, then beside the paper's numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from whale.reporting.comparisons import BETTER, UNCLEAR, WORSE, Comparison, short, splits_of, unjudged, verdict
from whale.reporting.measured import Numbers, group_mean, groups_of, horizons_of, mean
from whale.reporting.page import NOT_MEASURED, Section, number, render

ROLES = {"pretrain": "pre-training robots", "finetune": "the unseen robot"}
STATUS = "demo scale, other data: not comparable"
UNIT = "small scale, and the paper names neither horizon nor unit of its reward: not comparable"


def _correlations(score: str, paper: float) -> list[tuple[str, str, float | None, str, str, int, int]]:
    """Rows of Table 3, which prints a mean over five tasks, and does not say at which level."""
    levels = (
        ("- mean over tasks", "the same", paper, f"task.mean.{score}.latent.pearson"),
        ("- within a step", "not said", None, f"{score}.latent.within_step.pearson"),
        ("- per rollout", "not said", None, f"{score}.latent.per_rollout.pearson"),
        ("- mean over tasks, per rollout", "not said", None, f"task.mean.{score}.latent.per_rollout.pearson"),
    )
    first = (f"correlation, {score}, pooled", "5 tasks, 8 steps", paper, f"{score}.latent.pearson")
    return [(what, setting, value, "uncertainty", key, 1, 2) for what, setting, value, key in (first, *levels)]


PAPER_TOKENS = [
    # (what, the paper's model, its value, our keys' group and metric, scale, digits); arXiv 2411.05619, Tables 2-4
    ("PSNR (dB)", "Whale-ST, 64 x 64, horizon 64", 28.8, "pretrain", "dynamics.full.rollout.{h}.psnr", 1, 1),
    ("SSIM x 100", "Whale-ST, 64 x 64, horizon 64", 93.5, "pretrain", "dynamics.full.rollout.{h}.ssim", 100, 1),
    ("LPIPS x 100", "Whale-ST, 64 x 64", 3.7, "pretrain", "dynamics.full.rollout.lpips", 100, 1),
    ("FVD", "Whale-ST, 64 x 64", 38.5, "pretrain", "dynamics.full.rollout.fvd", 1, 1),
    ("value gap", "Whale-ST, 64 x 64", 10.3, "values", "mean.full.{h}.value_gap", 1, 1),
    ("return correlation (Spearman)", "Whale-ST, 64 x 64", 0.77, "values", "mean.full.{h}.spearman", 1, 2),
    ("regret@5", "Whale-ST, 64 x 64", 7.3, "values", "mean.full.{h}.regret_at_5", 1, 1),
    *_correlations("retracing", 0.55),
    *_correlations("entropy", 0.35),
    *_correlations("ensemble", 0.10),
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

FAMILY_METRICS = {
    "psnr": "PSNR (dB)", "psnr_moving": "PSNR on moving pixels (dB)", "ssim": "SSIM", "ee": "end-effector error (m)",
}  # fmt: skip


@dataclass(frozen=True)
class Means:
    """A comparison over the robots of a role. `css`: class of the page's style."""

    ours: str = NOT_MEASURED
    baseline: str = NOT_MEASURED
    better: str = NOT_MEASURED  # "2 of 4"
    marks: str = ""  # "1 ! 1 ~": how many are worse, and how many unclear
    css: str = ""


def comparisons_section(
    rows: Sequence[Comparison], found: Numbers, video: Numbers, uncertainty: Numbers, values: Numbers
) -> Section:
    """`rows` were found in `found`, names as in `whale metrics`; the others are flat metrics of one stage each."""
    present = {split.partition(".")[0] for split in splits_of(rows)}
    roles = {role: title for role, title in ROLES.items() if role in present}
    table = [(row, [means(row, role, found) for role in roles]) for row in rows]
    paper = _paper(video, uncertainty, values)
    return Section(
        "Comparisons",
        render(
            "comparisons.html", roles=roles, rows=table, said=[*verdict(rows), *unjudged(found)], paper=paper,
            family=another_family(video), budgets=family_budgets(video),
        ),
    )  # fmt: skip


def means(row: Comparison, role: str, found: Numbers) -> Means:
    """Raises ConfigError where robots were measured by unlike protocols."""
    row = row.of(role)
    cells = list(row.cells.values())
    if not cells:
        return Means()
    better, counts = row.count(BETTER), [(row.count(mark), mark) for mark in (WORSE, UNCLEAR)]
    ours, baseline = mean(found, [cell.name for cell in cells]), fmean(cell.baseline for cell in cells)
    marks = " ".join(f"{count} {mark}" for count, mark in counts if count)
    css = "worse" if row.count(WORSE) else "better" if better == len(cells) else ""
    return Means(short(ours), short(baseline), f"{better} of {len(cells)}", marks, css)


def another_family(video: Numbers) -> list[list[str]]:
    """Rows: data, metric, ours, theirs, the paired difference with its interval, and what that says."""
    rows = []
    for name in sorted(name for name in video if ".full_lead." in name and f"{name}.low" in video):
        group, _, at = name.partition(".full_lead.")
        data, _, model = group.rpartition(".rssm.")
        horizon, metric = at.split(".")
        measured = {"ee": "ee_error"}.get(metric, metric)
        ours, theirs = (video.get(f"{data}.{each}.rollout.{horizon}.{measured}")
                        for each in ("dynamics.full", f"rssm.{model}"))  # fmt: skip
        lead, low, high = (video[name + end] for end in ("", ".low", ".high"))
        what = f"{FAMILY_METRICS[metric]}, {horizon[1:]} steps, against {model}"
        difference = f"{number(lead, 3)} [{number(low, 3)}, {number(high, 3)}]"
        rows.append([data, what, number(ours, 3), number(theirs, 3), difference, _beats(low, high)])
    return sorted(rows, key=lambda row: row[0][:8] != "pretrain")


def family_budgets(video: Numbers) -> list[str]:
    """One sentence for each model of the other family: what it cost to train, and what ours did."""
    said = {}
    for name in video:
        if name.endswith(".budget.parameters"):
            group = name.removesuffix(".parameters")
            model = group.split(".")[-2]
            said[model] = f"{model}: {_cost(video, group, '')}; tokenizer, behavior model and full together: " + (
                _cost(video, group, "full_") if f"{group}.full_flops" in video else "not measured"
            )
    return [said[model] for model in sorted(said)]


def _cost(video: Numbers, group: str, whose: str) -> str:
    parameters, segments, flops = (video[f"{group}.{whose}{name}"] for name in ("parameters", "segments", "flops"))
    assert isinstance(flops, int | float)
    return f"{parameters:,} parameters, {segments:,} segments drawn, {flops:.3g} FLOP of training"


def _beats(low: object, high: object) -> str:
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return NOT_MEASURED
    return "ours beats it" if low > 0 else "ours does not beat it" if high < 0 else "too close to call"


def _paper(video: Numbers, uncertainty: Numbers, values: Numbers) -> list[list[str]]:
    """Rows: metric, the paper's model and setting, status, the paper's value, ours."""
    rows = []
    for what, paper_model, paper, role, metric, scale, digits in PAPER_TOKENS:
        own = {"uncertainty": uncertainty, "values": values}
        source, place = (own[role], "pretrain") if role in own else (video, role)
        horizons = horizons_of(source)
        value = group_mean(source, place, metric.format(h=horizons[-1] if horizons else "h"))
        at = f", horizon {horizons[-1][1:]}" if "{h}" in metric and horizons else ""
        status = UNIT if role == "values" else STATUS
        status = _why_not(source, place, metric) if value is None else _weakness(source) or status
        ours = number(None if value is None else value * scale, digits)
        rows.append([f"{what}{at}", paper_model, status, number(paper, digits), ours])
    return rows


def _weakness(numbers: Numbers) -> str:
    """What the evaluation of values says of a model whose frames tell no rewards; empty where they do."""
    said = {str(value) for name, value in numbers.items() if name.endswith(".mean.full.status")}
    return "; ".join(sorted(each for each in said if each != "measured"))


def _why_not(numbers: Numbers, role: str, metric: str) -> str:
    """What the evaluation itself says about a metric that has no value."""
    said = {str(numbers[key]) for group in groups_of(numbers, role) if (key := f"{group}.{metric}.status") in numbers}
    return "; ".join(sorted(said)) or "not measured"
