"""The data: what was ingested, sample frames, action histograms, and mixture shares planned against realised."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from whale.common.json_files import read_json
from whale.data.spec.episode import ACTION_NAMES
from whale.data.storage.shards import ShardSet
from whale.reporting.charts import histogram, paired_bars
from whale.reporting.page import Section, number, parts, render
from whale.reporting.pictures import filmstrip, png

FRAMES_SHOWN = 6
EPISODES_COUNTED = 40  # for the histograms, spread over the train split
FRAME_PX = 72


def data_section(roles: dict[str, Path], mix_dir: Path, models_dir: Path) -> Section:
    """`roles`: "pretrain" and "finetune" -> folder that holds shards/<dataset>."""
    sets = [(role, ShardSet.open(path)) for role, root in roles.items() for path in _datasets(root)]
    counts = [
        [shards.name, role, split, f"{count['episodes']:,}", f"{count['steps']:,}"]
        for role, shards in sets
        for split, count in sorted(shards.manifest["kept"].items())
    ]
    datasets = [_dataset(role, shards) for role, shards in sets]
    body = render("data.html", counts=counts, datasets=datasets, mixtures=_mixtures(mix_dir, models_dir))
    return Section("Data", body)


def _datasets(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "shards").glob("*/manifest.json"))


def _dataset(role: str, shards: ShardSet) -> dict[str, Any]:
    """What data.html shows of one dataset; without `picture` where no episode was kept."""
    split = "train" if "train" in shards.splits else shards.splits[0]
    rows = shards.episodes(split)
    if not rows:
        return {"name": shards.name, "picture": None}
    row = rows[0]
    chosen = np.unique(np.linspace(0, row.num_steps - 1, FRAMES_SHOWN).round().astype(int))
    frames = np.stack([shards.read_frames(row, int(step), int(step) + 1)[0] for step in chosen])
    strip = filmstrip(frames)
    width = round(strip.shape[1] * FRAME_PX / frames.shape[1])
    charts, dead = _histograms(shards, split)
    return {
        "name": shards.name,
        "role": role,
        "picture": parts.image(png(strip), "image/png", f"{shards.name}, one episode", width, FRAME_PX),
        "task": row.language or row.metadata.get("task", "") or "no instruction",
        "rate": number(shards.manifest["control_hz"], 1),
        "digest": shards.digest[:16],
        "histograms": charts,
        "dead": ", ".join(dead),
    }


def _histograms(shards: ShardSet, split: str) -> tuple[list[Markup], list[str]]:
    """One of each live action dimension, and the names of the others."""
    rows = shards.episodes(split)
    step = max(1, len(rows) // EPISODES_COUNTED)
    values = []
    for row in rows[::step]:
        arrays = shards.read_arrays(row)
        values.append(arrays["action"][arrays["action_valid"]])
    actions = np.concatenate(values)
    live = shards.statistics["action"]["mask"]
    charts = [histogram(actions[:, i], name) for i, name in enumerate(ACTION_NAMES) if live[i]]
    return charts, [name for i, name in enumerate(ACTION_NAMES) if not live[i]]


def _mixtures(mix_dir: Path, models_dir: Path) -> list[tuple[str, Markup]]:
    """(plan, chart): planned shares of the sampling plans beside the shares that trainings really consumed."""
    plans = read_json(mix_dir / "plan.json") if (mix_dir / "plan.json").is_file() else {}
    charts = []
    for plan_name, consumer in (("pretrain", "tokenizer"), ("dynamics", "dynamics/full")):
        if plan_name not in plans:
            continue
        planned = {entry["name"]: entry["share"] for entry in plans[plan_name]["datasets"]}
        realised = _realised(models_dir / consumer / "receipt.json")
        rows = [(name, [100 * share, 100 * realised.get(name, 0.0)]) for name, share in sorted(planned.items())]
        names = ["planned", f"realised by {consumer}" if realised else "realised: no receipt"]
        charts.append((plan_name, paired_bars(rows, names, " %")))
    return charts


def _realised(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    datasets = read_json(path).get("datasets", {})
    return {name: row["segment_share"] for name, row in datasets.items() if "segment_share" in row}
