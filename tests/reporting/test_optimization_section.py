"""Figure 4 on the page and in `dvc plots`: curves with intervals, floors, and what is no result."""

import csv
import json
import shutil

import numpy as np
import pytest

from whale.reporting.policies.optimization_section import PLOT_COLUMNS, optimization_section, read_tasks
from whale.reporting.report import build_report
from whale.reporting.shown_by_dvc import SUCCESS, headline, write_for_dvc

FAILED = "gate failed: <no result>"


def write_task(root, task="plate-slide", status="measured"):
    arrays, numbers = {}, {"expert.success": 1.0, "gate.difference": 0.25, "status": status}
    for place, method in enumerate(("cloning_all", "cloning_best", "none", "retracing")):
        mean = np.array([0.1, 0.3, 0.5]) + 0.1 * place
        arrays |= {f"{method}.steps": np.array([0, 500, 1000]), f"{method}.mean": mean}
        arrays |= {f"{method}.low": mean - 0.05, f"{method}.high": mean + 0.05}
        arrays[f"{method}.success"] = np.zeros((2, 3, 20), bool)
        numbers |= {
            f"{method}.success{end}": mean[-1] + off for end, off in (("", 0), (".low", -0.05), (".high", 0.05))
        }
    numbers |= {"retracing.alpha": 1234.5, "retracing.mean_penalty": 0.47, "none.alpha": 0.0}
    folder = root / "evaluation/optimization" / task
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "curves.npz", **arrays)
    (root / "metrics").mkdir(exist_ok=True)
    (root / f"metrics/optimize_policy.{task}.json").write_text(json.dumps(numbers))
    return root


@pytest.fixture
def tasks(tmp_path):
    root = write_task(tmp_path)
    return read_tasks(root / "evaluation", root / "metrics")


def test_every_method_stands_beside_cloning_and_the_expert_with_its_interval(tasks):
    shown = str(optimization_section(tasks).body)
    assert "0.80 [0.75, 0.85]" in shown and "expert (scripted)" in shown and "0.25 [" in shown
    assert "1.23e+03" in shown and "0.47" in shown
    assert shown.count("<svg") == 5  # together, and one a method
    assert "gate failed" not in shown


def test_what_the_gate_refused_is_marked(tmp_path):
    root = write_task(tmp_path, status=FAILED)
    shown = str(optimization_section(read_tasks(root / "evaluation", root / "metrics")).body)
    assert "gate failed: &lt;no result&gt;" in shown


def test_the_page_has_the_section_where_a_policy_was_optimized_alone(report_inputs, tmp_path):
    assert ">Policies<" not in build_report(report_inputs).html
    copy = {}
    for name, path in vars(report_inputs).items():
        copy[name] = tmp_path / path.name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy[name])
    write_task(tmp_path)
    assert ">Policies<" in build_report(type(report_inputs)(**copy)).html


def test_dvc_has_a_curve_a_method_with_its_interval_and_the_headline_numbers(tasks, tmp_path):
    curves = {task: arrays for task, (_, arrays) in tasks.items()}
    write_for_dvc(tmp_path / "out", tmp_path / "metrics", tmp_path, {}, curves)
    assert {path.stem for path in (tmp_path / "out" / SUCCESS).iterdir()} == {
        f"plate-slide.{method}" for method in ("cloning_all", "cloning_best", "none", "retracing")
    }
    with (tmp_path / "out" / SUCCESS / "plate-slide.retracing.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1] == dict(zip(PLOT_COLUMNS, ("1000.0", "0.8", "0.75", "0.85"), strict=True))
    shown = headline(tmp_path / "metrics")
    assert shown["optimize_policy.plate-slide.retracing.success"] == pytest.approx(0.8)
    assert shown["optimize_policy.plate-slide.gate.difference"] == 0.25 and len(shown) == 6


def test_without_a_task_dvc_finds_a_plot_without_rows(tmp_path):
    (tmp_path / "metrics").mkdir()
    write_for_dvc(tmp_path / "out", tmp_path / "metrics", tmp_path, {}, {})
    assert (tmp_path / "out" / SUCCESS / "none.csv").read_text() == ",".join(PLOT_COLUMNS) + "\n"
