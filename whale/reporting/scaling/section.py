"""Figure 7: losses of several sizes by training FLOP, the line through them, and first of all whether it holds."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from markupsafe import Markup

from whale.reporting.charts import line_chart
from whale.reporting.measured import Numbers
from whale.reporting.page import Section, number, render
from whale.reporting.scaling.lines import FITS, interval, lines_of, title_of, verdict

X = "log10 of training FLOP"
PAPER = (
    "The paper (6.3, Fig. 7) trains 39M, 77M, 204M and 456M parameters for 300,000 steps and calls its losses "
    "log-linear in training FLOP; the coefficients behind its figure are not in the text that we have. Ours are the "
    "data, sizes and steps of this profile: not comparable."
)


def scaling_section(found: Mapping[str, Numbers], curves: Mapping[str, Mapping[str, np.ndarray]]) -> Section:
    """`found`: entry of evaluate_scaling -> its flat metrics; `curves`: entry -> `<model>.tokens`, `<model>.loss`."""
    entries = [
        {
            "name": name,
            "said": verdict(lines := lines_of(numbers)),
            "lines": [line.row() for line in lines],
            "charts": [("training curves", _curves(curves[name], numbers)), *_charts(numbers)],
            "models": _models(numbers),
        }
        for name, numbers in found.items()
    ]
    return Section("Scaling", render("scaling.html", entries=entries, paper=PAPER))


def _charts(numbers: Numbers) -> Iterator[tuple[str, Markup]]:
    """A chart for each split: the losses of each data fraction by FLOP, and the line through those of most data."""
    places = sorted({key.partition(".models.")[0] for key in numbers if ".mean." in key and ".models." in key})
    for place in places:
        measure = "loss" if place.endswith(".training") else "nll"
        series: dict[str, tuple[list[float], list[float]]] = {}
        most = 0.0
        for name, flops, fraction in _sizes(numbers):
            if isinstance(loss := numbers.get(f"{place}.models.{name}.{measure}"), int | float):
                x, y = series.setdefault(f"{100 * fraction:g} % of the episodes", ([], []))
                x.append(math.log10(flops))
                y.append(loss)
                most = max(most, fraction)
        at = place + FITS + f"data{100 * most:g}".replace(".", "_")
        if f"{at}.a" in numbers and series:
            xs = [x for points, _ in series.values() for x in points]
            ends, (a, b) = [min(xs), max(xs)], (float(numbers[f"{at}.{name}"]) for name in "ab")  # type: ignore[arg-type]
            series["line"] = (ends, [a + b * x for x in ends])
        yield title_of(place), line_chart(series, X, f"{measure} (nats)")


def _curves(curves: Mapping[str, np.ndarray], numbers: Numbers) -> Markup:
    series = {
        name: (curves[f"{name}.tokens"] / 1e6, curves[f"{name}.loss"]) for name, _, _ in _sizes(numbers)
        if len(curves[f"{name}.loss"])
    }  # fmt: skip
    return line_chart(series, "million tokens", "training loss (nats)")


def _sizes(numbers: Numbers) -> list[tuple[str, float, float]]:
    """(model, training FLOP, data fraction), by FLOP."""
    names = {key.split(".")[1] for key in numbers if key.startswith("models.")}
    told = {
        name: [float(str(numbers[f"models.{name}.{what}"])) for what in ("flops", "data_fraction")] for name in names
    }
    rows = [(name, flops, fraction) for name, (flops, fraction) in told.items()]
    return sorted(rows, key=lambda row: (row[1], row[2], row[0]))


def _models(numbers: Numbers) -> list[list[str]]:
    """A row a model: name, parameters, share of data, FLOP, then its losses."""
    rows = []
    for name, flops, fraction in _sizes(numbers):
        size, trained = numbers[f"models.{name}.parameters"], numbers.get(f"pretrain.mean.training.models.{name}.loss")
        tested, tuned = (_loss(numbers, role, name) for role in ("pretrain", "finetune"))
        rows.append([name, f"{size:,}", f"{100 * fraction:g} %", f"{flops:.3g}", number(trained, 3), tested, tuned])
    return rows


def _loss(numbers: Numbers, role: str, name: str) -> str:
    """With its interval; of several splits each."""
    places = sorted(key for key in numbers if key.startswith(f"{role}.mean.") and key.endswith(f".models.{name}.nll"))
    return "; ".join(interval(numbers, place) for place in places) or number(None)
