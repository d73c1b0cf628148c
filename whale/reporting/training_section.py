"""Training curves of every checkpoint, as its own curves.json tells them."""

from pathlib import Path

from markupsafe import Markup

from whale.common.json_files import read_json
from whale.reporting.charts import line_chart
from whale.reporting.page import Section, render

SHOWN_FIRST = ("loss", "nll", "l1", "psnr", "changed_accuracy", "policy_nll", "kl")
UNITS = {"psnr": "dB", "nll": "nats", "policy_nll": "nats", "kl": "nats"}
CHARTS_PER_MODEL = 3
NOT_SHOWN = ("step", "lr", "learning_rate", "seconds")


def training_section(models_dir: Path) -> Section:
    """One card per folder below `models_dir` whose curves.json holds any; the others are named."""
    found = sorted(models_dir.glob("**/curves.json"), key=lambda path: _order(path, models_dir))
    charts = [(path.parent.relative_to(models_dir).as_posix(), _charts(path)) for path in found]
    models = [(name, shown) for name, shown in charts if shown]
    untrained = [name for name, shown in charts if not shown]
    return Section("Training", render("training.html", models=models, untrained=", ".join(untrained)))


def _order(path: Path, root: Path) -> tuple:
    parts = path.parent.relative_to(root).parts
    kinds = ("tokenizer", "behavior", "dynamics")
    kind = parts[1] if parts[0] == "finetuned" and len(parts) > 1 else parts[0]
    return parts[0] == "finetuned", kinds.index(kind) if kind in kinds else len(kinds), parts


def _charts(path: Path) -> list[Markup]:
    records = [record for record in read_json(path) if "step" in record]
    keys = {key for record in records for key, value in record.items() if isinstance(value, (int, float))}
    known = [key for key in SHOWN_FIRST if key in keys]
    others = sorted(keys - set(known) - set(NOT_SHOWN))
    charts = []
    for key in (known + others)[:CHARTS_PER_MODEL]:
        points = [(record["step"], record[key]) for record in records if isinstance(record.get(key), (int, float))]
        label = f"{key} ({UNITS[key]})" if key in UNITS else key
        charts.append(line_chart({key: ([step for step, _ in points], [value for _, value in points])}, "step", label))
    return charts
