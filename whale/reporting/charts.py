"""Small charts: data -> places on the page, drawn by templates/charts.html.

Coordinates are rounded to a tenth of a pixel: equal data give equal bytes. A name has one colour on the whole page.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from whale.reporting.page import macros

MOST_TICKS = 4  # steps of an axis
MOST_DOTS = 16  # a line of few points shows them
COLORS = {  # variables of page.css
    "with z": "ours", "without z": "second", "from scratch": "third", "still image": "baseline", "tokenizer": "ceiling",
    "RSSM": "fourth", "none": "ours", "cloning, best episodes": "fourth", "cloning, all episodes": "baseline",
    "retracing": "second", "entropy": "third", "ensemble": "ceiling", "disagreement": "ours", "error": "fourth",
    "moved": "ours", "step": "baseline", "chance": "baseline", "diagonal": "baseline", "line": "baseline",
}  # fmt: skip
OTHERS = ("ours", "second", "third", "fourth", "ceiling")
Values = Sequence[float] | np.ndarray
Ticks = list[tuple[float, str]]


@dataclass(frozen=True)
class Frame:
    """Pixels of a chart; data lie between left and right, top and bottom."""

    width: int = 328
    height: int = 192
    left: int = 50
    right: int = 314
    top: int = 20
    bottom: int = 152


FRAME = Frame()


def color_of(name: str, index: int) -> str:
    """Of a series: its own for a name that the page uses again, else by its place in the chart."""
    return COLORS.get(name, OTHERS[index % len(OTHERS)])


def line_chart(series: Mapping[str, tuple[Values, Values]], x_label: str, y_label: str) -> Markup:
    """`series`: name -> (x, y). NaN is left out. A legend follows if there are several; baselines are dashed."""
    points = {name: _finite(x, y) for name, (x, y) in series.items()}
    points = {name: xy for name, xy in points.items() if len(xy[0])}
    if not points:
        return _CHARTS.nothing("nothing recorded")
    x_range = _range(np.concatenate([x for x, _ in points.values()]), pad=0.0)
    y_range = _rounded(_range(np.concatenate([y for _, y in points.values()]), pad=0.0))
    colors = {name: color_of(name, index) for index, name in enumerate(points)}
    lines = [
        (name, colors[name], colors[name] == "baseline", _places(x, y, x_range, y_range), len(x) <= MOST_DOTS)
        for name, (x, y) in points.items()
    ]
    ticks = _x_ticks(x_range), _y_ticks(y_range)
    chart = _CHARTS.plot(FRAME, x_label, y_label, *ticks, lines=lines)
    return chart + _CHARTS.legend(list(colors.items())) if len(points) > 1 else chart


def scatter(x: np.ndarray, y: np.ndarray, x_label: str, y_label: str, limit: int = 400) -> Markup:
    """Points; at most `limit`, evenly thinned, so that the page stays small."""
    x, y = _finite(np.ravel(x), np.ravel(y))
    if len(x) == 0:
        return _CHARTS.nothing("nothing measured")
    chosen = np.unique(np.linspace(0, len(x) - 1, min(limit, len(x))).round().astype(int))
    x_range, y_range = _rounded(_range(x, 0.04)), _rounded(_range(y, 0.04))
    points = _places(x[chosen], y[chosen], x_range, y_range)
    return _CHARTS.plot(FRAME, x_label, y_label, _x_ticks(x_range), _y_ticks(y_range), points=points)


def histogram(values: np.ndarray, label: str, bins: int = 24) -> Markup:
    """A bare histogram of finite values with its range under it."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return _CHARTS.nothing(f"{label}: no values")
    counts, edges = np.histogram(values, bins=bins)
    width, height = 136, 46
    step, top = width / bins, max(int(counts.max()), 1)
    sizes = [height * int(count) / top for count in counts]
    bars = [
        (round(index * step, 1), round(height - size, 1), round(step - 0.8, 1), round(size, 1))
        for index, size in enumerate(sizes)
        if size
    ]
    return _CHARTS.histogram(label, bars, width, height, short(edges[0]), short(edges[-1]))


def paired_bars(rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], unit: str) -> Markup:
    """For each labelled row one thin bar per name, e.g. planned and realised shares."""
    top = max((value for _, values in rows for value in values), default=1.0) or 1.0
    colors = ["baseline", *OTHERS][: len(names)]
    drawn = [
        (
            label,
            [
                (round(75 * value / top, 1), color, f"{short(value)}{unit}")  # a quarter is left for the words
                for value, color in zip(values, colors, strict=True)
            ],
        )
        for label, values in rows
    ]
    return _CHARTS.bars(drawn, list(zip(names, colors, strict=True)))


def step_bars(values: Sequence[float], step_width: float, height: int, lead: int = 0) -> Markup:
    """One bar per imagined frame, aligned under a filmstrip whose first `lead` frames were given."""
    finite = [value for value in values if math.isfinite(value)]
    top = max(finite, default=0.0) or 1.0
    bars = []
    for index, value in enumerate(values):
        if math.isfinite(value):
            size = max(1.0, (height - 2) * value / top)
            x = (lead + index) * step_width + step_width * 0.2
            place = (x, height - size, step_width * 0.6, size)
            bars.append((*(round(each, 1) for each in place), short(value)))
    return _CHARTS.step_bars(bars, round((lead + len(values)) * step_width, 1), height)


def ticks(low: float, high: float, most: int) -> Ticks:
    """Round values (1, 2 or 5 times a power of ten) of an axis, at most about `most`, with their texts."""
    step, digits = _step(low, high, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    form = f",.{digits}f" if digits <= 4 else ".0e"
    return [(index * step, format(index * step, form) if index else "0") for index in range(first, last + 1)]


def short(value: float) -> str:
    """Two digits for a place where there is no room: 0.0097, 0.97, 9.7, 97."""
    size = abs(float(value))
    if size < 1e-12:
        return "0"
    return f"{value:,.0f}" if size >= 10 else f"{value:.2g}"


def _step(low: float, high: float, most: int) -> tuple[float, int]:
    """1, 2 or 5 times a power of ten that goes into the range at most `most` times, and its digits after the point."""
    raw = (high - low) / most
    power = math.floor(math.log10(raw))
    factor = next(factor for factor in (1, 2, 5, 10) if factor * 10.0**power >= raw * (1 - 1e-9))
    return factor * 10.0**power, max(0, -power - (factor == 10))


def _rounded(bounds: tuple[float, float]) -> tuple[float, float]:
    """The range widened to the next round values, so that the axis ends in them."""
    step, _ = _step(*bounds, MOST_TICKS)
    return math.floor(bounds[0] / step + 1e-9) * step, math.ceil(bounds[1] / step - 1e-9) * step


def _x_ticks(bounds: tuple[float, float]) -> Ticks:
    return [(_x(value, bounds), words) for value, words in ticks(*bounds, MOST_TICKS + 1)]


def _y_ticks(bounds: tuple[float, float]) -> Ticks:
    return [(_y(value, bounds), words) for value, words in ticks(*bounds, MOST_TICKS + 1)]


def _places(
    x: np.ndarray, y: np.ndarray, x_range: tuple[float, float], y_range: tuple[float, float]
) -> list[tuple[float, float]]:
    return [(_x(a, x_range), _y(b, y_range)) for a, b in zip(x, y, strict=True)]


def _x(value: float, bounds: tuple[float, float]) -> float:
    share = (float(value) - bounds[0]) / (bounds[1] - bounds[0])
    return round(FRAME.left + (FRAME.right - FRAME.left) * share, 1)


def _y(value: float, bounds: tuple[float, float]) -> float:
    share = (float(value) - bounds[0]) / (bounds[1] - bounds[0])
    return round(FRAME.bottom - (FRAME.bottom - FRAME.top) * share, 1)


def _range(values: np.ndarray, pad: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * pad if high > low else max(abs(high), 1.0) * 0.5
    return max(low - margin, 0.0) if low >= 0 else low - margin, high + margin


def _finite(x: Values, y: Values) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    keep = np.isfinite(a) & np.isfinite(b)
    return a[keep], b[keep]


_CHARTS = macros("charts.html")
