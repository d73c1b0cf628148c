"""Points of several classes in a plane whose axes mean nothing, as after t-SNE.

A class has a colour of the page and a shape; neighbours in the legend differ in both, 24 classes in one of them.
"""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from whale.reporting.charts import OTHERS
from whale.reporting.page import macros

SIDE, EDGE = 328, 8  # pixels of the square, and of its empty border
MOST_POINTS = 600
COLORS = (*OTHERS, "baseline")
SHAPES = (  # SVG paths from a point on: circle, square, triangle, diamond
    "m-2.6 0a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0-5.2 0", "m-2.3-2.3h4.6v4.6h-4.6z", "m0-3.2l3 5.2h-6z",
    "m0-3.4l3.4 3.4-3.4 3.4-3.4-3.4z",
)  # fmt: skip


def cloud(places_S2: np.ndarray, names: Sequence[str], label: str) -> Markup:
    """One path a class, then the legend; at most MOST_POINTS points, evenly thinned. `label`: what colours mean."""
    if not len(places_S2):
        return _MACROS.nothing("nothing measured")
    chosen = np.unique(np.linspace(0, len(names) - 1, min(MOST_POINTS, len(names))).round().astype(int))
    low, high = places_S2.min(axis=0), places_S2.max(axis=0)
    scale = (SIDE - 2 * EDGE) / max(float((high - low).max()), 1e-9)
    middle = (low + high) / 2
    marks = []
    for index, name in enumerate(sorted(set(names))):
        color, shape = _mark(index)
        points = [(places_S2[place] - middle) * scale + SIDE / 2 for place in chosen if names[place] == name]
        marks.append((name, color, "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y in points), f"M6 6{shape}"))
    return _MACROS.cloud(SIDE, label, marks)


def _mark(index: int) -> tuple[str, str]:
    """Colour and shape of a class: of 12 in turn, then 12 more whose shapes are one further."""
    return COLORS[index % len(COLORS)], SHAPES[(index + index // 12) % len(SHAPES)]


_MACROS = macros("behavior_cloud.html")
