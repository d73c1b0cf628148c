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
from whale.reporting.comparisons_section import Means, means
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
