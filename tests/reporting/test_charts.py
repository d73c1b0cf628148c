import re

import numpy as np
import pytest

from whale.reporting.charts import histogram, line_chart, paired_bars, scatter, step_bars, ticks


def test_a_line_goes_from_the_left_axis_to_the_right_edge_and_up_for_growing_values():
    svg = line_chart({"loss": ([0, 50, 100], [1.0, 2.0, 3.0])}, "step", "loss")
    points = [tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]+)"', svg)[1].split()]
    assert points[0][0] == 50 and points[-1][0] == 314
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
    widths = re.findall(r"width:([\d.]+)%", paired_bars([("a", [50, 25])], ["p", "r"], "%"))
    assert float(widths[0]) == 2 * float(widths[1])


def test_an_undefined_uncertainty_has_no_bar():
    assert step_bars([float("nan"), 1.0, 0.5], 10, 20).count("<rect") == 2


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0.0, 0.03864), ["0", "0.01", "0.02", "0.03"]),
        ((19.8, 29.1), ["20", "25"]),
        ((1, 8), ["2", "4", "6", "8"]),
        ((-0.3, 0.1), ["-0.3", "-0.2", "-0.1", "0", "0.1"]),
        ((0, 10_000), ["0", "5,000", "10,000"]),
    ],
)
def test_ticks_are_round(bounds, words):
    assert [text for _, text in ticks(*bounds, most=4)] == words


def test_a_name_has_one_colour_whatever_stands_beside_it():
    """It is the colour of the baseline, which is dashed."""
    points = ([1, 2], [3.0, 4.0])
    few = line_chart({"with z": points, "still image": points}, "step", "PSNR (dB)")
    many = line_chart({"with z": points, "from scratch": points, "still image": points}, "step", "PSNR (dB)")
    colors = [re.search(r"var\(--(\w+)\)[^>]*dasharray[^>]*><title>still image", svg)[1] for svg in (few, many)]
    assert colors == ["baseline", "baseline"]


def test_labels_are_escaped():
    assert "<b>" not in paired_bars([("<b>", [1.0])], ["<b>"], "")
