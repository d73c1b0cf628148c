"""Figure 7 on the page: bad news first, the models of each fraction, the line."""

import re

import numpy as np
import pytest

from whale.evaluation.scaling.fit import fit_metrics
from whale.reporting.report import build_report
from whale.reporting.scaling.lines import lines_of, verdict, words_of
from whale.reporting.scaling.section import scaling_section

SIZES = {"w32": (1e12, 100), "w64": (1e13, 200), "w96": (1e14, 300)}


def metrics(tenth: tuple[float, float, float]) -> dict[str, object]:
    """All episodes lie on a line; `tenth`: losses with a tenth of them."""
    found: dict[str, object] = {}
    for fraction, losses in ((1.0, (3.0, 2.5, 2.0)), (0.1, tenth)):
        models = {f"{name}{'' if fraction == 1 else '_tenth'}": values for name, values in SIZES.items()}
        for (name, (flops, size)), loss in zip(models.items(), losses, strict=True):
            found |= {f"models.{name}.flops": flops, f"models.{name}.parameters": size}
            found |= {f"models.{name}.data_fraction": fraction, f"models.{name}.tokens": 10}
            found[f"pretrain.mean.test.models.{name}.nll"] = loss
            found[f"pretrain.mean.training.models.{name}.loss"] = loss - 0.25
        flops, sizes = zip(*SIZES.values(), strict=True)
        for place, less in (("test", 0), ("training", 0.25)):
            fit = fit_metrics(flops, sizes, np.array([losses]) - less)
            found |= {f"pretrain.mean.{place}.fit.data{100 * fraction:g}.{key}": value for key, value in fit.items()}
    return found


def curves(found: dict[str, object]) -> dict[str, np.ndarray]:
    names = {key.split(".")[1] for key in found if key.startswith("models.")}
    return {f"{name}.{what}": np.arange(1.0, 4.0) for name in names for what in ("tokens", "loss")}


def test_lines_that_do_not_hold_are_said_before_those_that_do():
    found = metrics((3.0, 3.1, 3.2))
    lines = lines_of(found)
    assert [line.holds for line in lines] == [False, False, True, True]
    first, *others = verdict(lines)
    assert first == "2 of 4 lines do not hold."
    assert "10 % of the episodes: does not hold: the loss does not fall" in others[0]
    assert others[-1].startswith("A line over log FLOP holds for: loss on test episodes, 100 % of the episodes")


def test_the_section_has_a_row_for_each_line_and_model_and_a_chart_for_each_loss():
    found = metrics((3.0, 2.9, 2.8))
    body = str(scaling_section({"sizes": found}, {"sizes": curves(found)}).body)
    assert body.count("<svg") == 3  # curves, test, training
    assert body.index("0 of 4 lines") < body.index("<table")
    for name in found:
        if name.startswith("models."):
            assert name.split(".")[1] in body
    assert "-0.500" in body and "training loss at equal tokens" in body


def test_the_drawn_line_is_that_of_the_most_data():
    found = metrics((3.0, 2.9, 2.8))
    body = str(scaling_section({"sizes": found}, {"sizes": curves(found)}).body)
    drawn = re.findall(r'points="([^"]*)"[^>]*><title>([^<]*)<', body)
    places = {title: [tuple(map(float, each.split(","))) for each in text.split()] for text, title in drawn}
    assert places["line"][0] == pytest.approx(places["100 % of the episodes"][0])
    assert places["line"][-1] == pytest.approx(places["100 % of the episodes"][-1])


def test_a_report_of_a_profile_that_compares_no_sizes_has_no_such_section(report_inputs):
    assert "<h2>Scaling</h2>" not in build_report(report_inputs).html


def test_fractions_are_said_in_words():
    assert [words_of(data) for data in ("data12_5", "all")] == ["12.5 % of the episodes", "all data fractions"]
