"""Figure 4: what policies succeed in while they learn in imagination, beside cloning and the expert."""

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from whale.common.json_files import read_json
from whale.evaluation.numbers.metrics import flattened
from whale.reporting.charts import Values, line_chart
from whale.reporting.measured import Numbers
from whale.reporting.page import Section, number, render
from whale.reporting.video_section import Arrays, load_arrays

CURVES, METRICS = "curves", "optimize_policy.*.json"
CLONED = ("cloning_all", "cloning_best")
NAMES = {
    "expert": "expert (scripted)", "cloning_all": "cloning, all episodes", "cloning_best": "cloning, best episodes",
    "none": "imagination, no penalty",
}  # fmt: skip
PLOT_COLUMNS = ("step", "success", "low", "high")


def optimization_section(tasks: Mapping[str, tuple[Numbers, Arrays]]) -> Section:
    """`tasks`: entry of optimize_policy -> its flat metrics and curves."""
    rows = [
        {
            "title": task,
            "status": "" if numbers.get("status") == "measured" else str(numbers.get("status")),
            "gate": _interval(numbers, "gate.difference"),
            "table": _table(numbers, arrays),
            "together": _together(numbers, arrays),
            "each": [(name_of(method), _with_interval(arrays, method)) for method in methods(arrays)],
        }
        for task, (numbers, arrays) in tasks.items()
    ]
    return Section("Policies", render("optimization.html", rows=rows))


def read_tasks(evaluation: Path, metrics: Path) -> dict[str, tuple[Numbers, Arrays]]:
    """What the stages of the tasks left; nothing where none was run."""
    found: dict[str, tuple[Numbers, Arrays]] = {}
    for path in sorted(metrics.glob(METRICS)):
        task = path.stem.partition(".")[2]
        found[task] = (flattened(read_json(path)), load_arrays(evaluation / "optimization" / task)[CURVES])
    return found


def methods(arrays: Arrays) -> list[str]:
    """Cloning first, the others by name."""
    names = {name.rpartition(".")[0] for name in arrays if name.endswith(".steps")}
    return [*(name for name in CLONED if name in names), *sorted(names - set(CLONED))]


def name_of(method: str) -> str:
    """For people."""
    return NAMES.get(method, f"imagination, {method}")


def plot_rows(arrays: Arrays, method: str) -> list[list[float]]:
    """Rows of PLOT_COLUMNS."""
    columns = [arrays[f"{method}.{name}"] for name in ("steps", "mean", "low", "high")]
    return [[float(f"{value:.6g}") for value in row] for row in zip(*columns, strict=True)]


def _table(numbers: Numbers, arrays: Arrays) -> tuple[list[str], list[list[str]]]:
    header = ["", "success", "less cloning, best", "alpha", "mean penalty"]
    rows = []
    for method in ("expert", *methods(arrays)):
        alpha, penalty = (numbers.get(f"{method}.{name}") for name in ("alpha", "mean_penalty"))
        found = [_interval(numbers, f"{method}.{name}") for name in ("success", "minus_cloning_best")]
        rows.append([name_of(method), *found, *map(_short, (alpha, penalty))])
    return header, rows


def _together(numbers: Numbers, arrays: Arrays) -> Markup:
    """Means alone; what cloning reaches are level lines."""
    imagined = [method for method in methods(arrays) if method not in CLONED]
    series: dict[str, tuple[Values, Values]] = {
        method: (arrays[f"{method}.steps"], arrays[f"{method}.mean"]) for method in imagined
    }
    ends = [0.0, max((float(arrays[f"{method}.steps"].max()) for method in imagined), default=1.0)]
    for floor in CLONED:
        value = numbers.get(f"{floor}.success")
        if isinstance(value, int | float):
            series[name_of(floor)] = (ends, [value, value])
    return line_chart(series, "gradient steps", "success")


def _with_interval(arrays: Arrays, method: str) -> Markup:
    steps = arrays[f"{method}.steps"]
    series = {"mean": (steps, arrays[f"{method}.mean"]), "95 %, low": (steps, arrays[f"{method}.low"])}
    return line_chart(series | {"95 %, high": (steps, arrays[f"{method}.high"])}, "gradient steps", "success")


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else number(None)


def _interval(numbers: Numbers, key: str) -> str:
    value, low, high = (numbers.get(key + end) for end in ("", ".low", ".high"))
    return number(None) if value is None else f"{number(value)} [{number(low)}, {number(high)}]"
