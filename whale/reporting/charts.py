"""Small charts as inline SVG, coloured by the page's own variables so that they follow light and dark.

Coordinates are rounded to a tenth of a pixel: equal data give equal bytes.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from whale.reporting.html import text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 328, 176, 50, 8, 20, 24

Values = Sequence[float] | np.ndarray


def line_chart(series: Mapping[str, tuple[Values, Values]], x_label: str, y_label: str) -> str:
    """`series`: name -> (x, y). NaN breaks a line. A legend follows if there are several."""
    points = {name: _finite(x, y) for name, (x, y) in series.items()}
    points = {name: xy for name, xy in points.items() if len(xy[0])}
    if not points:
        return "<p class=note>nothing recorded</p>"
    x_range = _range(np.concatenate([x for x, _ in points.values()]), pad=0.0)
    y_range = _range(np.concatenate([y for _, y in points.values()]), pad=0.06)
    body = _axes(x_range, y_range, x_label, y_label)
    for index, (x, y) in enumerate(points.values()):
        path = " ".join(f"{_x(a, x_range)},{_y(b, y_range)}" for a, b in zip(x, y, strict=True))
        body += f'<polyline points="{path}" fill="none" stroke="var(--c{index % 6})" stroke-width="1.6"/>'
        if len(x) <= 16:
            body += "".join(
                f'<circle cx="{_x(a, x_range)}" cy="{_y(b, y_range)}" r="2.2" fill="var(--c{index % 6})"/>'
                for a, b in zip(x, y, strict=True)
            )
    return _svg(body, f"{y_label} over {x_label}") + (legend(list(points)) if len(points) > 1 else "")


def scatter(x: np.ndarray, y: np.ndarray, x_label: str, y_label: str, limit: int = 400) -> str:
    """Points; at most `limit`, evenly thinned, so that the page stays small."""
    x, y = _finite(np.ravel(x), np.ravel(y))
    if len(x) == 0:
        return "<p class=note>nothing measured</p>"
    chosen = np.unique(np.linspace(0, len(x) - 1, min(limit, len(x))).round().astype(int))
    x_range, y_range = _range(x, 0.04), _range(y, 0.04)
    body = _axes(x_range, y_range, x_label, y_label)
    body += "".join(
        f'<circle cx="{_x(x[i], x_range)}" cy="{_y(y[i], y_range)}" r="2" fill="var(--c0)" fill-opacity=".45"/>'
        for i in chosen
    )
    return _svg(body, f"{y_label} against {x_label}")


def histogram(values: np.ndarray, label: str, bins: int = 24) -> str:
    """A bare histogram of finite values with its range under it."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return f"<figure><p class=note>{text(label)}: no values</p></figure>"
    counts, edges = np.histogram(values, bins=bins)
    width, height = 136, 46
    bar, top = width / bins, max(int(counts.max()), 1)
    body = "".join(
        f'<rect x="{index * bar:.1f}" y="{height - height * count / top:.1f}" width="{bar - 0.8:.1f}" '
        f'height="{height * count / top:.1f}" fill="var(--c0)"/>'
        for index, count in enumerate(counts)
        if count
    )
    body += f'<line x1="0" x2="{width}" y1="{height}" y2="{height}" stroke="var(--line)"/>'
    body += f'<text x="0" y="{height + 13}">{_tick(edges[0])}</text>'
    body += f'<text x="{width}" y="{height + 13}" text-anchor="end">{_tick(edges[-1])}</text>'
    body += f'<text class="ink" x="{width / 2}" y="{height + 13}" text-anchor="middle">{text(label)}</text>'
    return (
        f'<svg viewBox="0 0 {width} {height + 18}" width="{width}" role="img" aria-label="{text(label)}">{body}</svg>'
    )


def paired_bars(rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], unit: str) -> str:
    """For each labelled row one thin bar per name, e.g. planned and realised shares."""
    top = max((value for _, values in rows for value in values), default=1.0) or 1.0
    body, y, bar = "", 4, 9
    for label, values in rows:
        body += f'<text class="ink" x="0" y="{y + bar * len(values) / 2 + 4:.1f}">{text(label)}</text>'
        for index, value in enumerate(values):
            length = 330 * value / top
            body += (
                f'<rect x="130" y="{y + index * bar}" width="{length:.1f}" height="{bar - 2}" rx="2" '
                f'fill="var(--c{index})"/><text x="{136 + length:.1f}" y="{y + index * bar + 7.5}" '
                f'style="font-size:9px">{value:.4g}{text(unit)}</text>'
            )
        y += bar * len(values) + 10
    svg = f'<svg viewBox="0 0 520 {y}" width="520" role="img" aria-label="{text(", ".join(names))}">{body}</svg>'
    return svg + legend(names)


def step_bars(values: Sequence[float], step_width: float, height: int, lead: int = 0) -> str:
    """One bar per imagined frame, aligned under a filmstrip whose first `lead` frames were given."""
    finite = [value for value in values if math.isfinite(value)]
    top = max(finite, default=0.0) or 1.0
    width = (lead + len(values)) * step_width
    body = f'<line x1="0" x2="{width:.1f}" y1="{height}" y2="{height}" stroke="var(--line)"/>'
    for index, value in enumerate(values):
        if math.isfinite(value):
            size = max(1.0, (height - 2) * value / top)
            x = (lead + index) * step_width + step_width * 0.2
            body += (
                f'<rect x="{x:.1f}" y="{height - size:.1f}" width="{step_width * 0.6:.1f}" height="{size:.1f}" '
                f'rx="2" fill="var(--warm)"><title>{value:.3g}</title></rect>'
            )
    return (
        f'<svg viewBox="0 0 {width:.1f} {height}" width="{width:.1f}" style="max-width:none" role="img" '
        f'aria-label="uncertainty per step">{body}</svg>'
    )


def legend(names: Sequence[str]) -> str:
    items = "".join(
        f'<span><i style="background:var(--c{i % 6})"></i>{text(name)}</span>' for i, name in enumerate(names)
    )
    return f"<div class=legend>{items}</div>"


def _axes(x_range: tuple[float, float], y_range: tuple[float, float], x_label: str, y_label: str) -> str:
    body = ""
    for value in np.linspace(*y_range, 4):
        y = _y(value, y_range)
        body += f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="var(--line)"/>'
        body += f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{_tick(value)}</text>'
    for value, anchor in zip(x_range, ("start", "end"), strict=True):
        body += f'<text x="{_x(value, x_range)}" y="{HEIGHT - 9}" text-anchor="{anchor}">{_tick(value)}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    body += f'<text x="{middle:.0f}" y="{HEIGHT - 9}" text-anchor="middle">{text(x_label)}</text>'
    return body + f'<text x="{LEFT}" y="{TOP - 8}">{text(y_label)}</text>'


def _svg(body: str, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{text(label)}">{body}</svg>'


def _x(value: float, bounds: tuple[float, float]) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * (float(value) - bounds[0]) / (bounds[1] - bounds[0]), 1)


def _y(value: float, bounds: tuple[float, float]) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (float(value) - bounds[0]) / (bounds[1] - bounds[0]), 1)


def _range(values: np.ndarray, pad: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * pad if high > low else max(abs(high), 1.0) * 0.5
    return max(low - margin, 0.0) if low >= 0 else low - margin, high + margin


def _finite(x: Values, y: Values) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    keep = np.isfinite(a) & np.isfinite(b)
    return a[keep], b[keep]


def _tick(value: float) -> str:
    return f"{value:.3g}" if abs(value) > 1e-12 else "0"
