"""The page's comparisons: means over robots, and the same counts and words as `whale metrics`."""

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from whale.cli import run
from whale.common.errors import ConfigError
from whale.reporting.comparisons import UNCLEAR, WORSE, compare
from whale.reporting.comparisons_section import Means, another_family, family_budgets, means
from whale.reporting.page import NOT_MEASURED
from whale.reporting.report import build_report

ACCURACY = "dynamics.full.changed_accuracy"


def _found(values):
    """Names and values of robots: (ours, baseline)."""
    found = {}
    for index, (ours, other) in enumerate(values):
        name = f"evaluate_video.pretrain.robot{index}.test.{ACCURACY}"
        found |= {name: ours, f"{name}_most_frequent": other}
    return found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(0.5, 0.2), (0.1, 0.3), (0.6, 0.1)], Means("0.4", "0.2", "2 of 3", "1 !", "worse")),
        ([(0.5, 0.2), (0.3, 0.2)], Means("0.4", "0.2", "2 of 2", "", "better")),
    ],
)
def test_robots_are_averaged_and_counted(values, expected):
    (row,) = compare(_found(values))
    assert means(row, "pretrain", _found(values)) == expected
    assert means(row, "finetune", _found(values)) == Means()


def test_what_is_unclear_is_neither_better_nor_worse():
    name = "evaluate_video.pretrain.robot.test.z.nll_gain"
    found = {name: 0.1, f"{name}.low": -0.1, f"{name}.high": 0.3}
    (row,) = compare(found)
    assert means(row, "pretrain", found) == Means("0.1", "0", "0 of 1", "1 ~", "")


def test_robots_of_unlike_protocols_are_not_averaged():
    found = _found([(0.5, 0.2), (0.3, 0.2)])
    for index, resolution in enumerate((32, 64)):
        found[f"evaluate_video.pretrain.robot{index}.test.protocol"] = f"metric=x|resolution={resolution}|model=1"
    with pytest.raises(ConfigError, match="unlike protocols"):
        means(compare(found)[0], "pretrain", found)


def _family(low: float | None, high: float | None, metric: str = "psnr") -> dict[str, object]:
    """Numbers of one robot: ours 21.5, theirs 20.25."""
    own = {"psnr": "psnr", "ee": "ee_error"}[metric]
    at = f"rssm.dreamer.full_lead.h8.{metric}"
    values = {at: 1.25, f"{at}.low": low, f"{at}.high": high}
    values |= {f"dynamics.full.rollout.h8.{own}": 21.5, f"rssm.dreamer.rollout.h8.{own}": 20.25}
    budget = {"parameters": 1500, "segments": 800, "flops": 2.5e12}
    values |= {f"rssm.dreamer.budget.{name}": value for name, value in budget.items()}
    values |= {f"rssm.dreamer.budget.full_{name}": 2 * value for name, value in budget.items()}
    return {f"pretrain.robot.test.{name}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.5, 2.0, "ours beats it"),
        (-2.0, -0.5, "ours does not beat it"),
        (-0.5, 2.0, "too close to call"),
        (None, None, NOT_MEASURED),
    ],
)
def test_another_family_is_beaten_where_the_paired_interval_lies_above_zero(low, high, said):
    ((data, what, ours, theirs, difference, verdict),) = another_family(_family(low, high))
    assert (data, what, ours, theirs) == (
        "pretrain.robot.test",
        "PSNR (dB), 8 steps, against dreamer",
        "21.500",
        "20.250",
    )
    assert verdict == said and (low is None or difference == f"1.250 [{low:.3f}, {high:.3f}]")


def test_the_error_of_the_end_effector_is_what_stands_beside_its_lead():
    assert another_family(_family(0.5, 2.0, "ee"))[0][1:4] == [
        "end-effector error (m), 8 steps, against dreamer", "21.500", "20.250",
    ]  # fmt: skip


def test_both_budgets_are_said_once():
    other = {name.replace("robot", "other"): value for name, value in _family(0.5, 2.0).items()}
    (said,) = family_budgets(_family(0.5, 2.0) | other)
    assert said == (
        "dreamer: 1,500 parameters, 800 segments drawn, 2.5e+12 FLOP of training; tokenizer, behavior model and full "
        "together: 3,000 parameters, 1,600 segments drawn, 5e+12 FLOP of training"
    )
    assert family_budgets({}) == another_family({}) == []


def test_the_page_shows_another_family_where_one_was_measured(report_inputs, tmp_path):
    folder = tmp_path / "metrics"
    shutil.copytree(report_inputs.metrics, folder)
    path = folder / "evaluate_video.json"
    found = {name.replace("robot.test", "blocks.val"): value for name, value in _family(-2.0, -0.5).items()}
    path.write_text(json.dumps(json.loads(path.read_text()) | found))
    with_it = build_report(replace(report_inputs, metrics=folder)).html
    assert "ours does not beat it" in with_it and "rollout PSNR lead, 8 steps (dB), dreamer" in with_it
    assert "Another family" not in build_report(report_inputs).html


def test_the_page_and_the_command_agree(report_inputs, tmp_path, monkeypatch, capsys):
    """In order and names of rows, in what is worse, unclear and better, in numbers of one robot, and in the verdict."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: mine\n")
    metrics = Path(shutil.copytree(report_inputs.metrics, "artifacts/mine/metrics"))
    video = json.loads((metrics / "evaluate_video.json").read_text())
    for name, gain in (("pretrain.blocks.val", -0.2), ("pretrain.cups.val", 0.1), ("finetune.unseen.test", 0.3)):
        at = f"{name}.z.nll_gain"
        video |= {at: gain, f"{at}.low": gain - 0.15, f"{at}.high": gain + 0.15}
    (metrics / "evaluate_video.json").write_text(json.dumps(video))
    page = unescape(build_report(replace(report_inputs, metrics=metrics)).html)
    page = page[page.index("<h2>Comparisons</h2>") : page.index("<h3>Beside the paper</h3>")]
    assert run(["metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()

    table = [re.split(r" {2,}(?=\S)", line.strip(), maxsplit=2) for line in lines[3 : lines.index("") - 2]]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr><td>.*", page)]
    assert len(table) > 10 and [line[:2] for line in table] == [row[:2] for row in rows]
    for (_, _, cells), (_, _, *means_of_roles) in zip(table, rows, strict=True):
        marks, better = (" ".join(means_of_roles[place::4]) for place in (2, 3))
        for mark in (WORSE, UNCLEAR):
            assert sum(map(int, re.findall(rf"(\d+) {mark}", marks))) == cells.count(mark)
        assert sum(map(int, re.findall(r"(\d+) of", better))) == len(re.findall(r"(?:^|  +)[\d-]\S* \|", cells))
        assert sum(map(int, re.findall(r"of (\d+)", better))) == cells.count("|")
        assert cells.endswith(f"{means_of_roles[4]} | {means_of_roles[5]}")
    verdict = lines[lines.index("") + 1 :][:2]
    assert "1 are too close to call" in verdict[0] and all(f"<p>{sentence}</p>" in page for sentence in verdict)
