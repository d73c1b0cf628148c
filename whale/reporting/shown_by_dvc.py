"""What `dvc metrics` and `dvc plots` show: the numbers of the first screen and a few curves, as JSON and CSV.

The metrics files hold thousands of numbers, too many lines for `dvc metrics diff`. Names are those of metrics files;
the names of the columns stand in dvc.yaml, too (`plots`).
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from whale.common.json_files import read_json, write_json
from whale.evaluation.numbers.metrics import flattened, folded
from whale.reporting.measured import Numbers, horizons_of
from whale.reporting.policies.optimization_section import PLOT_COLUMNS, methods, plot_rows
from whale.reporting.video_section import Arrays

METRICS, CURVES, RISK = "metrics.json", "plots/training", "plots/risk_coverage"
SUCCESS, NOTHING = "plots/success", "none"
HEADLINE = re.compile(
    r"[\w-]+\.[\w-]+\.[\w-]+\.(?:tokenizer\.(?:psnr|psnr_mean_image|flicker)"
    r"|dynamics\.full\.(?:nll|nll_copy_unigram|nll_gap|actions\.score)"
    r"|dynamics\.full\.rollout\.(?P<h>h\d+)\.(?:ee|psnr|ssim|psnr_moving)(?:_copy_last)?"
    r"|(?:retracing|entropy|moved|step)\.latent\.(?:pearson|per_rollout\.pearson)"
    r"|mean\.full\.(?P<values_h>h\d+)\.(?:r2|value_gap|spearman))"
    r"|optimize_policy\.[\w-]+\.(?:\w+\.success|gate\.difference)"
    r"|policies\.[\w-]+\.across\.\w+\.(?:pearson|spearman|mmrv)"
    r"|scaling\.[\w-]+\.\w+\.mean\.[\w-]+\.fit\.\w+\.(?:b|r2|held_out_largest\.error(?:_no_change)?)"
    r"|behavior\.[\w-]+\.pretrain\.[\w-]+\.[\w-]+\.z\.(?:policy|task)\w*\.(?:prior|simple|chance)"
)
SCORES = ("retracing", "entropy", "step")
CURVE_COLUMNS = ("step", "loss", "validation_loss")


def write_for_dvc(
    out: Path, metrics: Path, models: Path, uncertainty: Mapping[str, Arrays],
    optimized: Mapping[str, Arrays],
) -> dict[str, float]:  # fmt: skip
    """METRICS, which it returns flat, and below CURVES, RISK and SUCCESS of the folder `out` a CSV a model, a dataset,
    and a method of a task.

    `metrics`: the folder of metrics files; `uncertainty`: role.dataset.split -> arrays of evaluate_uncertainty;
    `optimized`: task -> curves of optimize_policy.
    """
    shown = headline(metrics)
    write_json(out / METRICS, folded(shown))
    for path in sorted(models.glob("**/curves.json")):
        records = [each for each in read_json(path) if "loss" in each]
        name = path.parent.relative_to(models).as_posix().replace("/", ".")
        rows = [[int(each["step"]), *(each.get(column, "") for column in CURVE_COLUMNS[1:])] for each in records]
        _write_csv(out / CURVES / f"{name}.csv", CURVE_COLUMNS, rows)
    for name, arrays in uncertainty.items():
        if "coverage" in arrays:
            _write_csv(out / RISK / f"{name}.csv", ("coverage", *SCORES), _risks(arrays))
    for task, arrays in optimized.items():
        for method in methods(arrays):
            _write_csv(out / SUCCESS / f"{task}.{method}.csv", PLOT_COLUMNS, plot_rows(arrays, method))
    if not optimized:  # DVC warns of a plot whose folder is not there
        (out / SUCCESS).mkdir(parents=True, exist_ok=True)
        (out / SUCCESS / f"{NOTHING}.csv").write_text(",".join(PLOT_COLUMNS) + "\n")
    return shown


def headline(metrics: Path) -> dict[str, float]:
    """The few numbers, rollouts at the longest horizon alone; a metrics file of an item has its name before them."""
    found: dict[str, float] = {}
    for path in sorted(metrics.glob("*.json")):
        item = path.stem.removeprefix("evaluate_") + "." if "." in path.stem else ""
        numbers = {f"{item}{name}": value for name, value in flattened(read_json(path)).items()}
        found |= dict(_chosen(numbers))
    return found


def _chosen(numbers: Numbers) -> Iterator[tuple[str, float]]:
    matches = {name: match for name in sorted(numbers) if (match := HEADLINE.fullmatch(name))}
    last = horizons_of(matches)[-1:]
    for name, match in matches.items():
        horizon, value = match["h"] or match["values_h"], numbers[name]
        if isinstance(value, int | float) and (horizon is None or horizon in last):
            yield name, value


def _risks(arrays: Arrays) -> list[list[float]]:
    """Rows of (share of steps kept, mean latent error of what each score would keep)."""
    columns = [arrays["coverage"], *(arrays[f"risk.{score}"] for score in SCORES)]
    return [[float(f"{value:.6g}") for value in row] for row in zip(*columns, strict=True)]


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """No file where there is nothing to draw, as for a model that was not trained."""
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *rows])
