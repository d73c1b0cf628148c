"""Training curves of every checkpoint, as its own curves.json tells them."""

import json
from pathlib import Path

from whale.reporting.charts import line_chart
from whale.reporting.html import Section, card, cards, paragraph

SHOWN_FIRST = ("loss", "nll", "l1", "psnr", "changed_accuracy", "policy_nll", "kl")
CHARTS_PER_MODEL = 3
NOT_SHOWN = ("step", "lr", "learning_rate", "seconds")


def training_section(models_dir: Path) -> Section:
    """One card per folder below `models_dir` that holds curves.json."""
    found = sorted(models_dir.glob("**/curves.json"), key=lambda path: _order(path, models_dir))
    items = [_model(path, path.parent.relative_to(models_dir).as_posix()) for path in found]
    lead = "Loss and its parts by optimizer step. Steps, not the clock, end a training."
    return Section("Training", paragraph(lead, "soft") + (cards(items) if items else paragraph("no curves", "note")))


def _order(path: Path, root: Path) -> tuple:
    parts = path.parent.relative_to(root).parts
    kinds = ("tokenizer", "behavior", "dynamics")
    kind = parts[1] if parts[0] == "finetuned" and len(parts) > 1 else parts[0]
    return parts[0] == "finetuned", kinds.index(kind) if kind in kinds else len(kinds), parts


def _model(path: Path, name: str) -> str:
    records = [record for record in json.loads(path.read_text()) if "step" in record]
    keys = {key for record in records for key, value in record.items() if isinstance(value, (int, float))}
    known = [key for key in SHOWN_FIRST if key in keys]
    others = sorted(keys - set(known) - set(NOT_SHOWN))
    charts = []
    for key in (known + others)[:CHARTS_PER_MODEL]:
        points = [(record["step"], record[key]) for record in records if isinstance(record.get(key), (int, float))]
        charts.append(line_chart({key: ([step for step, _ in points], [value for _, value in points])}, "step", key))
    return card("".join(charts) or paragraph("no curve", "note"), name)
