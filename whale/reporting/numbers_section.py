"""All measured numbers, per dataset, with their intervals and protocols."""

from whale.reporting.measured import Numbers, groups_of, horizons_of
from whale.reporting.page import Section, number, render
from whale.reporting.video_section import NAMES

Rows = list[tuple[str, str, int]]  # metric, label, digits; "- ..." is the baseline of what stands above it
ROLES = {"pretrain": "Pre-training robots, unseen policies and initial states", "finetune": "The unseen robot"}
ROWS = [
    ("tokenizer.psnr", "tokenizer PSNR (dB)", 2),
    ("tokenizer.psnr_mean_image", "- mean image", 2),
    ("tokenizer.psnr_changing_pixels", "PSNR on changing pixels (dB)", 2),
    ("tokenizer.codes_used_share", "share of codes used", 3),
    ("tokenizer.perplexity", "code perplexity", 1),
    ("dynamics.full.changed_accuracy", "accuracy on changed tokens", 3),
    ("dynamics.full.changed_accuracy_most_frequent", "- always most frequent", 3),
    ("dynamics.full.nll", "token NLL (nats)", 3),
    ("dynamics.full.nll_copy_unigram", "- copy/unigram baseline", 3),
    ("dynamics.full.shuffled_action_gap", "shuffled-action gap (nats)", 4),
    ("z.nll_gain", "token NLL without z minus with (nats)", 4),
    ("policy.nll_lagged_prior", "policy NLL, z of the lagged prior", 2),
    ("policy.nll_posterior", "policy NLL, z of the posterior", 2),
    ("policy.nll_other_episode", "- z of another episode", 2),
    ("policy.nll_zeros", "- no z", 2),
]
ACTION_ROWS = [
    ("dynamics.full.actions.score", "action-following score (0.5 = ignores actions)", 3),
    ("dynamics.full.actions.changed_nll", "NLL of changed tokens, true actions", 3),
    *[
        (f"dynamics.full.actions.{label}.changed_nll_gap", f"- {label}: gap (nats)", 4)
        for label in ("permuted", "negated", "zeroed")
    ],
    *[
        (f"dynamics.full.actions.{label}.changed_nll_gap", f"- only {label} zeroed: gap (nats)", 4)
        for label in ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
    ],
]
UNCERTAINTY_ROWS = [
    (f"{score}.{error}.{metric}", f"{score} vs {error} error: {label}", 2)
    for score in ("retracing", "entropy", "ensemble", "moved", "step")
    for error in ("latent", "state")
    for metric, label in (
        ("pearson", "Pearson, pooled"),
        ("spearman", "Spearman, pooled"),
        ("within_step.pearson", "Pearson within a step"),
        ("within_step.spearman", "Spearman within a step"),
        ("per_rollout.pearson", "Pearson per rollout"),
        ("auroc", "AUROC, error above its step's median"),
        ("calibration_error", "expected calibration error"),
    )
] + [
    ("state.error_m", "position of the effector in imagined frames: error (m)", 3),
    ("state.probe_error_m", "- in recorded frames (the probe's own)", 3),
]


def numbers_section(video: Numbers, uncertainty: Numbers) -> Section:
    """`video`, `uncertainty`: the flat metrics of the two evaluation stages."""
    roles = [
        {
            "title": title,
            "measured": _table(video, role, [*ROWS, *_rollout_rows(video, role)]),
            "codebook": codebook_line(video, role),
            "actions": _table(video, role, [*ACTION_ROWS, *_divergence_rows(video)]),
            "uncertainty": _table(uncertainty, role, UNCERTAINTY_ROWS),
        }
        for role, title in ROLES.items()
        if groups_of(video, role) or groups_of(uncertainty, role)
    ]
    return Section("Numbers", render("numbers.html", roles=roles, protocols=_protocols({**video, **uncertainty})))


def codebook_line(numbers: Numbers, role: str) -> str | None:
    """What the datasets of a role use of the codebook together; `role` as the names in `numbers` begin."""
    found = {key: numbers.get(f"{role}.codebook.{key}") for key in ("codes_used", "num_codes", "perplexity")}
    if found["codes_used"] is None:
        return None
    used, total, perplexity = (number(value, digits) for value, digits in zip(found.values(), (0, 0, 1), strict=True))
    return f"all datasets together: {used} of {total} codes used, perplexity {perplexity}"


def _table(numbers: Numbers, role: str, rows: Rows) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows of what was measured, a dataset per column; None where nothing was."""
    groups = groups_of(numbers, role)
    body = []
    for metric, label, digits in rows:
        cells = [_cell(numbers, f"{group}.{metric}", digits) for group in groups]
        if any(cell != number(None) for cell in cells):
            body.append([label, *cells])
    return (["", *(" ".join(name.split(".")[1:]) for name in groups)], body) if body else None


def _rollout_rows(numbers: Numbers, role: str) -> Rows:
    """Every variant, then what bounds it from below and above."""
    names = {key.split(".")[4] for key in numbers if key.startswith(f"{role}.") and ".dynamics." in key}
    rows = []
    for h in horizons_of(numbers):
        for metric, title, digits in (("psnr", "PSNR (dB)", 2), ("ssim", "SSIM", 3)):
            for variant in sorted(names):
                label = f"rollout {title} at {h[1:]}, {NAMES.get(variant, variant)}"
                rows.append((f"dynamics.{variant}.rollout.{h}.{metric}", label, digits))
            rows.append((f"dynamics.full.rollout.{h}.{metric}_copy_last", "- still image", digits))
            rows.append((f"dynamics.full.rollout.{h}.{metric}_tokenizer", "- tokenizer (ceiling)", digits))
        rows.append((f"z.{h}.psnr_gain", f"PSNR at {h[1:]} with z minus without (dB)", 2))
    return rows


def _divergence_rows(numbers: Numbers) -> Rows:
    rows = []
    for h in horizons_of(numbers)[-1:]:
        for label in ("permuted", "negated", "zeroed"):
            at = f"dynamics.full.actions.{label}.{h}"
            rows.append((f"{at}.divergence", f"frames at {h[1:]} moved by {label} actions (of 255 levels)", 2))
            rows.append((f"{at}.psnr_drop", "- PSNR lost against the recorded frame (dB)", 2))
    return rows


def _cell(numbers: Numbers, key: str, digits: int) -> str:
    value, low, high = (numbers.get(key + end) for end in ("", ".low", ".high"))
    if low is None or high is None or value is None:
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def _protocols(numbers: Numbers) -> list[list[object]]:
    found = sorted(numbers.items())
    rows = [[key.removesuffix(".protocol"), value] for key, value in found if key.endswith(".protocol")]
    return rows + [[key.removesuffix(".status"), value] for key, value in found if "refused" in str(value)]
