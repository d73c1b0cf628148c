import re

import numpy as np

from whale.reporting.charts import histogram, line_chart, paired_bars, scatter, step_bars


def test_a_line_goes_from_the_left_axis_to_the_right_edge_and_up_for_growing_values():
    svg = line_chart({"loss": ([0, 50, 100], [1.0, 2.0, 3.0])}, "step", "loss")
    points = [tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]+)"', svg)[1].split()]
    assert points[0][0] == 50 and points[-1][0] == 320
    assert points[0][1] > points[1][1] > points[2][1]


def test_values_that_are_not_finite_are_left_out():
    svg = line_chart({"loss": ([0, 1, 2], [1.0, float("nan"), 3.0])}, "step", "loss")
    assert "nan" not in svg
    assert "nothing recorded" in line_chart({"loss": ([0], [float("nan")])}, "step", "loss")


def test_constant_and_single_values_are_drawn():
    assert "polyline" in line_chart({"a": ([5], [2.0])}, "x", "y")
    assert "<rect" in histogram(np.zeros(4), "z")
    assert "nothing measured" in scatter(np.full(3, np.nan), np.ones(3), "u", "e")


def test_bars_are_proportional():
    widths = [
        float(w) for w in re.findall(r'width="([\d.]+)" height="7"', paired_bars([("a", [50, 25])], ["p", "r"], "%"))
    ]
    assert widths == [330.0, 165.0]


def test_an_undefined_uncertainty_has_no_bar():
    assert step_bars([float("nan"), 1.0, 0.5], 10, 20).count("<rect") == 2


def test_labels_are_escaped():
    assert "<b>" not in paired_bars([("<b>", [1.0])], ["<b>"], "")
