import json
import re

from whale.reporting.comparisons_section import Comparison, comparisons_section, outcomes

ACCURACY = Comparison("accuracy", "a.accuracy", "guess", "a.guess")


def _numbers(values, metric="a.accuracy", baseline="a.guess"):
    numbers = {}
    for index, (ours, other) in enumerate(values):
        numbers |= {f"pretrain.robot{index}.test.{metric}": ours, f"pretrain.robot{index}.test.{baseline}": other}
    return numbers


def test_a_comparison_counts_robots_and_compares_means():
    (outcome,) = outcomes(_numbers([(0.5, 0.2), (0.1, 0.3), (0.6, 0.1)]), [ACCURACY])
    assert (outcome.better, outcome.of, outcome.role, outcome.mark) == (2, 3, "pretrain", "")
    assert (round(outcome.ours, 6), round(outcome.baseline, 6)) == (0.4, 0.2)


def test_most_robots_below_the_baseline_is_worse_and_all_above_is_better():
    marks = [next(outcomes(_numbers(values), [ACCURACY])).mark for values in ([(1, 2), (1, 2)], [(3, 2), (3, 2)])]
    assert marks == ["worse", "better"]


def test_less_may_be_better_and_a_baseline_a_constant():
    loss = Comparison("loss", "a.accuracy", "none", 1.0, is_lower_better=True)
    (outcome,) = outcomes(_numbers([(0.5, 0.0)]), [loss])
    assert (outcome.better, outcome.baseline) == (1, 1.0)


def test_every_horizon_is_compared_and_what_was_not_measured_is_not():
    numbers = _numbers([(1.0, 0.5)], "r.h4.psnr", "r.h4.psnr_copy_last")
    numbers |= _numbers([(1.0, None)], "r.h8.psnr", "r.h8.psnr_copy_last")
    found = outcomes(numbers, [Comparison("PSNR at {h}", "r.{h}.psnr", "still", "r.{h}.psnr_copy_last")])
    assert [outcome.comparison.label for outcome in found] == ["PSNR at 4"]


def test_the_bad_ones_come_first_and_are_marked(report_inputs):
    video, uncertainty = (
        json.loads((report_inputs.metrics / f"evaluate_{name}.json").read_text()) for name in ("video", "uncertainty")
    )
    rows = re.findall(r"<tr><td>(.*?)</td>.*?class=\"n ?(\w*)\"", comparisons_section(video, uncertainty).body)
    marks = [mark for _, mark in rows]
    assert marks == sorted(marks, key=["worse", "", "better"].index)
    assert rows[0] == ("rollout SSIM, 1 steps ahead", "worse")
