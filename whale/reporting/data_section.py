"""The data: what was ingested, sample frames, action histograms, and mixture shares planned against realised."""

import json
from pathlib import Path

import numpy as np

from whale.data.spec.episode import ACTION_NAMES
from whale.data.storage.shards import ShardSet
from whale.reporting.charts import histogram, paired_bars
from whale.reporting.html import Section, card, cards, heading, image, number, paragraph, table, text, wide
from whale.reporting.pictures import filmstrip, png

FRAMES_SHOWN = 6
EPISODES_COUNTED = 40  # for the histograms, spread over the train split
FRAME_PX = 72


def data_section(roles: dict[str, Path], mix_dir: Path, models_dir: Path) -> Section:
    """`roles`: "pretrain" and "finetune" -> folder that holds shards/<dataset>."""
    sets = [(role, ShardSet.open(path)) for role, root in roles.items() for path in _datasets(root)]
    return Section(
        "Data",
        _counts(sets)
        + cards([_dataset(role, shards) for role, shards in sets], "pairs")
        + _mixture(mix_dir, models_dir),
    )


def _datasets(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "shards").glob("*/manifest.json"))


def _counts(sets: list[tuple[str, ShardSet]]) -> str:
    rows = []
    for role, shards in sets:
        for split, count in sorted(shards.manifest["kept"].items()):
            rows.append([shards.name, role, split, f"{count['episodes']:,}", f"{count['steps']:,}"])
    lead = "Every frame below was read back from the published shards; statistics come from the split train only."
    return paragraph(lead, "soft") + table(["dataset", "role", "split", "episodes", "steps"], rows, num_text_columns=3)


def _dataset(role: str, shards: ShardSet) -> str:
    split = "train" if "train" in shards.splits else shards.splits[0]
    rows = shards.episodes(split)
    if not rows:
        return card(paragraph("no episode was kept"), shards.name)
    row = rows[0]
    chosen = np.unique(np.linspace(0, row.num_steps - 1, FRAMES_SHOWN).round().astype(int))
    frames = np.stack([shards.read_frames(row, int(step), int(step) + 1)[0] for step in chosen])
    strip = filmstrip(frames)
    scale = FRAME_PX / frames.shape[1]
    picture = image(png(strip), "image/png", f"{shards.name}, one episode", round(strip.shape[1] * scale), FRAME_PX)
    task = text(row.language or row.metadata.get("task", "") or "no instruction")
    digest = f"shards <code>{shards.digest[:16]}</code>"
    rate = number(shards.manifest["control_hz"], 1)
    caption = f"<p class=note>{role} &middot; &ldquo;{task}&rdquo; &middot; {rate} Hz &middot; {digest}</p>"
    return card(wide(picture) + caption + _histograms(shards, split), shards.name)


def _histograms(shards: ShardSet, split: str) -> str:
    rows = shards.episodes(split)
    step = max(1, len(rows) // EPISODES_COUNTED)
    parts = []
    for row in rows[::step]:
        arrays = shards.read_arrays(row)
        parts.append(arrays["action"][arrays["action_valid"]])
    actions = np.concatenate(parts)
    live = shards.statistics["action"]["mask"]
    charts = [histogram(actions[:, i], name) for i, name in enumerate(ACTION_NAMES) if live[i]]
    dead = [name for i, name in enumerate(ACTION_NAMES) if not live[i]]
    note = f"<p class=note>no information in: {text(', '.join(dead))}</p>" if dead else ""
    return f"<div style='display:flex;flex-wrap:wrap;gap:8px 16px'>{''.join(charts)}</div>{note}"


def _mixture(mix_dir: Path, models_dir: Path) -> str:
    """Planned shares of the sampling plans beside the shares that trainings really consumed."""
    plans = json.loads((mix_dir / "plan.json").read_text()) if (mix_dir / "plan.json").is_file() else {}
    blocks = []
    for plan_name, consumer in (("pretrain", "tokenizer"), ("dynamics", "dynamics/full")):
        if plan_name not in plans:
            continue
        planned = {entry["name"]: entry["share"] for entry in plans[plan_name]["datasets"]}
        realised = _realised(models_dir / consumer / "receipt.json")
        rows = [(name, [100 * share, 100 * realised.get(name, 0.0)]) for name, share in sorted(planned.items())]
        names = ["planned", f"realised by {consumer}" if realised else "realised: no receipt"]
        blocks.append(card(paired_bars(rows, names, " %"), f"plan {plan_name}"))
    return heading("Mixture") + (cards(blocks, "pairs") if blocks else paragraph("no sampling plan was found", "note"))


def _realised(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    datasets = json.loads(path.read_text()).get("datasets", {})
    return {name: row["segment_share"] for name, row in datasets.items() if "segment_share" in row}
