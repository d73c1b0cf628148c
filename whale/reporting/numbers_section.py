"""All measured numbers: per dataset, and beside the paper's with an honest status."""

from collections.abc import Mapping

from whale.evaluation.protocol import require_comparable
from whale.reporting.html import Section, heading, number, paragraph, table, text

Numbers = Mapping[str, object]
ACTIONS_LEAD = (
    "Actions exchanged with another episode's, negated, or zeroed, and each dimension zeroed by itself: how much worse "
    "the tokens that changed are explained, and how far imagined frames move. The score is the share of transitions "
    "that altered actions explain worse."
)
STATUS = "demo scale, other data: not comparable"
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
ACTION_ROWS = [
    ("dynamics.full.actions.score", "action-following score (0.5: deaf)", 3),
    ("dynamics.full.actions.changed_nll", "nll of changed tokens, true actions", 3),
    *[
        (f"dynamics.full.actions.{label}.changed_nll_gap", f"- {label}: gap (nats)", 4)
        for label in ("permuted", "negated", "zeroed")
    ],
    *[
        (f"dynamics.full.actions.{label}.changed_nll_gap", f"- only {label} zeroed: gap", 4)
        for label in ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
    ],
]
UNCERTAINTY_ROWS = [
    (f"{score}.{error}.{metric}", f"{score} vs {error} error: {label}", 2)
    for score in ("retracing", "entropy", "ensemble", "step")
    for error in ("latent", "state")
    for metric, label in (
        ("pearson", "Pearson, pooled"),
        ("spearman", "Spearman, pooled"),
        ("within_step.pearson", "Pearson within a step"),
        ("within_step.spearman", "Spearman within a step"),
        ("per_rollout.pearson", "Pearson per rollout"),
        ("auroc_worst_quartile", "AUROC worst quarter"),
        ("calibration_gap", "calibration gap"),
    )
] + [
    ("state.error_m", "position of the effector in imagined frames: error (m)", 3),
    ("state.probe_error_m", "- in recorded frames (the probe's own)", 3),
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
        if line := codebook_line(video, role):
            body += paragraph(line, "note")
        body += heading("Does it do what it is told") + paragraph(ACTIONS_LEAD, "soft")
        body += _per_dataset(video, role, [*ACTION_ROWS, *_divergence_rows(video)])
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
    """`role.dataset.split` of every group, sorted; `role.codebook` is of all of them together."""
    parts = [key.split(".") for key in numbers if key.startswith(f"{role}.")]
    return sorted({".".join(part[:3]) for part in parts if len(part) > 3})


def codebook_line(numbers: Numbers, role: str) -> str | None:
    """What the datasets of a role use of the codebook together; `role` as the names in `numbers` begin."""
    found = {key: numbers.get(f"{role}.codebook.{key}") for key in ("codes_used", "num_codes", "perplexity")}
    if found["codes_used"] is None:
        return None
    used, total, perplexity = (number(value, digits) for value, digits in zip(found.values(), (0, 0, 1), strict=True))
    return f"all datasets together: {used} of {total} codes used, perplexity {perplexity}"


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
                STATUS if ours else _why_not(source, place, metric),
                number(paper, digits),
                ours or number(None),
            ]
        )
    rows += [[what, model, status, value, number(None)] for what, model, value, status in PAPER_ONLY]
    return table(["metric (ours)", "paper: model, setting", "status", "paper", "ours"], rows, num_text_columns=3)


def _why_not(numbers: Numbers, role: str, metric: str) -> str:
    """What the evaluation itself says about a metric that has no value."""
    said = {str(numbers[key]) for group in groups_of(numbers, role) if (key := f"{group}.{metric}.status") in numbers}
    return "; ".join(sorted(said)) or "not measured"


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


def _divergence_rows(numbers: Numbers) -> list[tuple[str, str, int]]:
    rows = []
    for h in horizons_of(numbers)[-1:]:
        for label in ("permuted", "negated", "zeroed"):
            at = f"dynamics.full.actions.{label}.{h}"
            rows.append((f"{at}.divergence", f"frames at {h[1:]} moved by {label} actions (levels)", 2))
            rows.append((f"{at}.psnr_drop", "- PSNR lost against the recorded frame (dB)", 2))
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
    """Without what belongs to the data: their name, their bytes, and how many windows they have."""
    return "|".join(part for part in protocol.split("|") if part.split("=")[0] not in ("data", "shards", "windows"))


def _protocols(numbers: Numbers) -> str:
    rows = [[key.removesuffix(".protocol"), numbers[key]] for key in sorted(numbers) if key.endswith(".protocol")]
    rows += [[key.removesuffix(".status"), value] for key, value in sorted(numbers.items()) if "refused" in str(value)]
    listing = table(["group", "protocol"], rows, num_text_columns=2)
    return f"<details><summary>{text(len(rows))} protocols</summary>{listing}</details>"
