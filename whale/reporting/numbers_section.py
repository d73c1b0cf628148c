"""All measured numbers: per dataset, and beside the paper's with an honest status."""

from collections.abc import Mapping

from whale.evaluation.protocol import require_comparable
from whale.reporting.html import Section, heading, number, paragraph, table, text

Numbers = Mapping[str, object]
STATUS = "demo scale, other data: not comparable"
PAPER_TOKENS = [
    # (what, the paper's model, its value, our keys' group and metric, scale, digits); arXiv 2411.05619, Tables 2-4
    ("PSNR (dB)", "Whale-ST, 64 x 64, horizon 64", 28.8, "pretrain", "dynamics.full.rollout.{h}.psnr", 1, 1),
    ("SSIM x 100", "Whale-ST, 64 x 64, horizon 64", 93.5, "pretrain", "dynamics.full.rollout.{h}.ssim", 100, 1),
    ("correlation, retracing", "5 tasks, 8 steps", 0.55, "uncertainty", "retracing.latent.pearson", 1, 2),
    ("correlation, entropy", "5 tasks, 8 steps", 0.35, "uncertainty", "entropy.latent.pearson", 1, 2),
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
    ("LPIPS x 100", "Whale-ST, 64 x 64", "3.7", "unavailable: no feature weights"),
    ("FVD", "Whale-ST, 64 x 64", "38.5", "unavailable: no feature weights"),
    ("value gap", "Whale-ST, 64 x 64", "10.3", "not measured yet"),
    ("return correlation", "Whale-ST, 64 x 64", "0.77", "not measured yet"),
]
ROWS = [
    ("tokenizer.psnr", "tokenizer PSNR (dB)", 2),
    ("tokenizer.psnr_mean_image", "mean image PSNR (dB)", 2),
    ("tokenizer.psnr_changing_pixels", "PSNR on changing pixels (dB)", 2),
    ("tokenizer.codes_used_share", "share of codes used", 3),
    ("tokenizer.perplexity", "code perplexity", 1),
    ("dynamics.full.changed_accuracy", "accuracy on changed tokens", 3),
    ("dynamics.full.changed_accuracy_most_frequent", "- most frequent code", 3),
    ("dynamics.full.nll", "nll (nats per token)", 3),
    ("dynamics.full.nll_copy_unigram", "- copy + unigram", 3),
    ("dynamics.full.shuffled_action_gap", "shuffled-action gap (nats)", 4),
    ("z.nll_gain", "nll gained by z (nats)", 4),
    ("policy.nll_lagged_prior", "policy nll, z of the lagged prior", 2),
    ("policy.nll_posterior", "policy nll, z of the posterior", 2),
    ("policy.nll_other_episode", "policy nll, z of another episode", 2),
    ("policy.nll_zeros", "policy nll, no z", 2),
]
UNCERTAINTY_ROWS = [
    (f"{score}.{error}.{metric}", f"{score} vs {error} error: {label}", 2)
    for score in ("retracing", "entropy")
    for error in ("latent", "pixel")
    for metric, label in (
        ("pearson", "Pearson"),
        ("spearman", "Spearman"),
        ("auroc_worst_quartile", "AUROC worst quarter"),
    )
]


def numbers_section(video: Numbers, uncertainty: Numbers) -> Section:
    """`video`, `uncertainty`: the flat metrics of the two evaluation stages."""
    lead = "Brackets hold 95 % intervals over episodes. A dash: not measured. Every group's protocol is listed below."
    body = paragraph(lead, "soft") + heading("Beside the paper") + _paper(video, uncertainty)
    for role, title in (
        ("pretrain", "Pre-training robots, unseen policies and initial states"),
        ("finetune", "The unseen robot"),
    ):
        body += heading(title) + _per_dataset(video, role, [*ROWS, *_rollout_rows(video, role)])
        body += heading(f"Uncertainty, {title[0].lower()}{title[1:]}") + _per_dataset(
            uncertainty, role, UNCERTAINTY_ROWS
        )
    return Section("Numbers", body + _protocols({**video, **uncertainty}))


def group_mean(numbers: Numbers, role: str, metric: str) -> float | None:
    """Mean of a metric over the datasets and splits of a role; None if none has it.

    Only numbers whose protocols differ in data and model alone may be averaged (ConfigError otherwise).
    """
    groups = [name for name in groups_of(numbers, role) if isinstance(numbers.get(f"{name}.{metric}"), (int, float))]
    protocols = [_protocol_of(numbers, name, metric) for name in groups]
    for other in protocols[1:]:
        require_comparable(_without_data(protocols[0]), _without_data(other))
    values = [float(numbers[f"{name}.{metric}"]) for name in groups]  # type: ignore[arg-type]
    return sum(values) / len(values) if values else None


def groups_of(numbers: Numbers, role: str) -> list[str]:
    """`role.dataset.split` of every group, sorted."""
    return sorted({".".join(key.split(".")[:3]) for key in numbers if key.startswith(f"{role}.")})


def horizons_of(numbers: Numbers) -> list[str]:
    """`h1`, `h4`, ... in numeric order."""
    found = {part for key in numbers for part in key.split(".") if part[:1] == "h" and part[1:].isdigit()}
    return sorted(found, key=lambda name: int(name[1:]))


def _paper(video: Numbers, uncertainty: Numbers) -> str:
    horizons = horizons_of(video)
    rows: list[list[object]] = []
    for what, paper_model, paper, role, metric, scale, digits in PAPER_TOKENS:
        source, place = (uncertainty, "pretrain") if role == "uncertainty" else (video, role)
        value = group_mean(source, place, metric.format(h=horizons[-1] if horizons else "h"))
        ours = "" if value is None else f"{number(value * scale, digits)}"
        at = f", horizon {horizons[-1][1:]}" if "{h}" in metric and horizons else ""
        rows.append(
            [
                f"{what}{at}",
                paper_model,
                STATUS if ours else "not measured",
                number(paper, digits),
                ours or number(None),
            ]
        )
    rows += [[what, model, status, value, number(None)] for what, model, value, status in PAPER_ONLY]
    return table(["metric (ours)", "paper: model, setting", "status", "paper", "ours"], rows, num_text_columns=3)


def _per_dataset(numbers: Numbers, role: str, rows: list[tuple[str, str, int]]) -> str:
    groups = groups_of(numbers, role)
    if not groups:
        return paragraph("not measured", "note")
    header = ["", *[" ".join(name.split(".")[1:]) for name in groups]]
    body = []
    for metric, label, digits in rows:
        cells = [_cell(numbers, f"{group}.{metric}", digits) for group in groups]
        if any(cell != number(None) for cell in cells):
            body.append([label, *cells])
    return table(header, body)


def _rollout_rows(numbers: Numbers, role: str) -> list[tuple[str, str, int]]:
    prefix = f"{role}."
    variants = sorted({key.split(".")[4] for key in numbers if key.startswith(prefix) and ".dynamics." in key})
    rows = []
    for h in horizons_of(numbers):
        at = f"dynamics.{{}}.rollout.{h}"
        rows += [(f"{at.format(v)}.psnr", f"rollout PSNR at {h[1:]}, {v.replace('_', ' ')}", 2) for v in variants]
        rows.append((f"{at.format('full')}.psnr_copy_last", "- copy last frame", 2))
        rows.append((f"{at.format('full')}.psnr_tokenizer", "- tokenizer (ceiling)", 2))
        rows.append((f"{at.format('full')}.ssim", f"rollout SSIM at {h[1:]}, full", 3))
    return rows


def _cell(numbers: Numbers, key: str, digits: int) -> str:
    value, low, high = (numbers.get(key + end) for end in ("", ".low", ".high"))
    if low is None or high is None or value is None:
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def _protocol_of(numbers: Numbers, group: str, metric: str) -> str:
    """The protocol of the innermost group that has one."""
    parts = metric.split(".")
    for length in range(len(parts) - 1, -1, -1):
        key = ".".join([group, *parts[:length], "protocol"])
        if isinstance(numbers.get(key), str):
            return str(numbers[key])
    return ""


def _without_data(protocol: str) -> str:
    return "|".join(part for part in protocol.split("|") if part.split("=")[0] not in ("data", "shards"))


def _protocols(numbers: Numbers) -> str:
    rows = [[key.removesuffix(".protocol"), numbers[key]] for key in sorted(numbers) if key.endswith(".protocol")]
    rows += [[key.removesuffix(".status"), value] for key, value in sorted(numbers.items()) if "refused" in str(value)]
    listing = table(["group", "protocol"], rows, num_text_columns=2)
    return f"<details><summary>{text(len(rows))} protocols</summary>{listing}</details>"
