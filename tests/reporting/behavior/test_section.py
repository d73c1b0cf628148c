"""Figure 15 on the page: bad news first, a chart by task and one by policy, marks that can be told apart."""

import dataclasses
import json
import re
import shutil
from itertools import pairwise

import numpy as np

from whale.reporting.behavior.cloud import COLORS, MOST_POINTS, SHAPES, _mark, cloud
from whale.reporting.behavior.section import behavior_section, verdict
from whale.reporting.report import build_report
from whale.reporting.shown_by_dvc import headline

AT = "pretrain.blocks.test.z."
QUESTIONS = {"policy": "more than simple features", "policy_within_task": "no more than chance",
             "task": "no more than simple features"}  # fmt: skip


def metrics() -> dict[str, object]:
    """Of one split; one task only in each policy, so that one question has no answer."""
    found: dict[str, object] = {"segments": 4, "episodes": 2, "task_within_policy.status": "not measured: few classes"}
    for question, status in QUESTIONS.items():
        found |= {f"{question}.status": status, f"{question}.chance": 0.25, f"{question}.unconverged_fits": 0}
        for name in ("prior", "posterior", "simple", "actions", "pixels", "shuffled"):
            found |= {f"{question}.{name}": 0.5, f"{question}.{name}.low": 0.4, f"{question}.{name}.high": 0.6}
    for name in ("prior", "simple"):
        at = f"policy_within_task.of.push.{name}"
        found |= {at: 0.75, f"{at}.low": 0.7, f"{at}.high": 0.8, "policy_within_task.of.push.chance": 0.5}
    found |= {"centroid.noisy_low": 0.31, "centroid.noisy_low.low": 0.2, "centroid.noisy_low.high": 0.4}
    return {AT + key: value for key, value in found.items()}


def arrays() -> dict[str, dict[str, np.ndarray]]:
    places = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    return {"test": {"tsne": places, "task": np.array(["push", "pull"] * 2), "policy": np.array(["a", "a", "b", "b"])}}


def body() -> str:
    return str(behavior_section({"blocks": metrics()}, {"blocks": arrays()}).body)


def test_what_z_does_not_say_stands_before_what_it_says():
    said = verdict({key.removeprefix(AT): value for key, value in metrics().items()})
    assert said[:2] == ["which policy, task given: z says no more than chance.",
                        "which task: z says no more than simple features."]  # fmt: skip
    assert said[-1] == "z says more than simple features: which policy."
    assert body().index("no more than chance") < body().index("<table")


def test_a_row_for_each_question_a_chart_by_task_and_by_policy_parts_and_centroids():
    text = body()
    assert text.count('aria-label="t-SNE of z by') == 2
    assert "coloured by task" in text and "coloured by policy" in text and "0.50 [0.40, 0.60]" in text
    assert "policies of push" in text and "0.75 [0.70, 0.80]" in text
    assert "noisy_low" in text and "0.31 [0.20, 0.40]" in text
    assert "which task, policy given: not measured" in text


def test_classes_have_marks_of_their_own_and_fit_a_narrow_page():
    marks = [_mark(index) for index in range(24)]
    assert len(set(marks)) == 24 == len(COLORS) * len(SHAPES)
    assert all(left[0] != right[0] and left[1] != right[1] for left, right in pairwise(marks))
    svg = str(cloud(np.random.default_rng(0).normal(size=(50, 2)), ["a", "b"] * 25, "policy"))
    assert int(re.search(r'<svg viewBox="0 0 (\d+) ', svg)[1]) <= 420 - 2 * (20 + 16 + 1)
    inside = [float(each) for pair in re.findall(r"M([\d.]+) ([\d.]+)m", svg.split("</svg>")[0]) for each in pair]
    assert len(inside) == 100 and min(inside) > 4 and max(inside) < 324
    assert svg.count("<title>") == 2 and svg == str(
        cloud(np.random.default_rng(0).normal(size=(50, 2)), ["a", "b"] * 25, "policy")
    )


def test_a_large_split_is_thinned_and_names_of_data_are_text():
    svg = str(cloud(np.random.default_rng(0).normal(size=(5000, 2)), ["<a>"] * 5000, "policy"))
    assert svg.split("</svg>")[0].count("M") == MOST_POINTS and "<a>" not in svg and "&lt;a&gt;" in svg


def test_the_page_has_the_section_where_z_was_probed_and_dvc_shows_its_numbers(report_inputs, tmp_path):
    assert "<h2>Behavior embedding</h2>" not in build_report(report_inputs).html
    for name in ("metrics", "evaluation"):
        shutil.copytree(getattr(report_inputs, name), tmp_path / name)
    (tmp_path / "metrics/evaluate_behavior.blocks.json").write_text(json.dumps(metrics()))
    (tmp_path / "evaluation/behavior/blocks").mkdir(parents=True)
    np.savez(tmp_path / "evaluation/behavior/blocks/test.npz", **arrays()["test"])
    inputs = dataclasses.replace(report_inputs, metrics=tmp_path / "metrics", evaluation=tmp_path / "evaluation")
    html = build_report(inputs).html
    assert "<h2>Behavior embedding</h2>" in html and "coloured by policy" in html
    shown = {key for key in headline(tmp_path / "metrics") if key.startswith("behavior.")}
    at = f"behavior.blocks.{AT}"
    assert shown == {f"{at}{question}.{name}" for question in QUESTIONS for name in ("prior", "simple", "chance")}
