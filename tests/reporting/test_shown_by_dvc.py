"""The few numbers and curves that `dvc metrics` and `dvc plots` show."""

import csv
import json

import numpy as np
import pytest

from whale.evaluation.numbers.metrics import flattened
from whale.reporting.shown_by_dvc import CURVES, METRICS, RISK, headline, write_for_dvc

AT = "pretrain.blocks.val.dynamics.full.rollout"


@pytest.fixture
def written(report_inputs, tmp_path):
    share = np.linspace(0.1, 1.0, 10)
    risks = {f"risk.{score}": share * factor for factor, score in enumerate(("retracing", "entropy", "step"), start=1)}
    shown = write_for_dvc(
        tmp_path,
        report_inputs.metrics,
        report_inputs.models,
        {"a.b.test": {"coverage": share, **risks}, "c.d.test": {}},
        {},
    )
    return tmp_path, shown


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_numbers_keep_the_names_and_values_of_the_metrics_files_and_stand_beside_their_baselines(
    written, report_inputs
):
    folder, shown = written
    assert flattened(json.loads((folder / METRICS).read_text())) == shown
    numbers = json.loads((report_inputs.metrics / "evaluate_video.json").read_text())
    of_video = {name: value for name, value in shown.items() if name in numbers}
    assert of_video and all(numbers[name] == value for name, value in of_video.items())
    assert {f"{AT}.h8.psnr", f"{AT}.h8.psnr_copy_last", f"{AT}.h8.ssim", f"{AT}.h8.ssim_copy_last"} <= set(shown)


def test_of_rollouts_only_the_longest_horizon_is_shown(written):
    assert not [name for name in written[1] if ".h1." in name or ".h4." in name]


def test_numbers_of_an_item_have_its_name_before_them(tmp_path):
    name = "across.imagined.spearman"
    (tmp_path / "evaluate_policies.arm-1.json").write_text(json.dumps({name: 0.5, "policy.still.true": 0.0}))
    assert headline(tmp_path) == {f"policies.arm-1.{name}": 0.5}


def test_lines_over_flop_are_shown_by_slope_fit_and_error_on_the_size_held_out(tmp_path):
    shown = {f"pretrain.mean.test.fit.data100.{name}": 0.5 for name in ("b", "r2", "held_out_largest.error")}
    others = {"pretrain.mean.test.fit.data100.b.low": 0.4, "models.w32.flops": 1e12, "finetune.mean.test.fit.all.a": 1}
    (tmp_path / "evaluate_scaling.sizes.json").write_text(json.dumps(shown | others))
    assert headline(tmp_path) == {f"scaling.sizes.{name}": value for name, value in shown.items()}


def test_a_model_has_a_file_of_its_curve_and_one_that_was_not_trained_has_none(written):
    found = {path.stem for path in (written[0] / CURVES).iterdir()}
    assert found == {"tokenizer", "dynamics.full", "finetuned.dynamics.full"}
    curve = rows(written[0] / CURVES / "tokenizer.csv")
    assert (curve[0], curve[-1]["step"]) == ({"step": "0", "loss": "3.0", "validation_loss": ""}, "600")


def test_a_data_set_has_a_file_of_risk_by_coverage_where_it_was_measured(written):
    assert [path.stem for path in (written[0] / RISK).iterdir()] == ["a.b.test"]
    assert rows(written[0] / RISK / "a.b.test.csv")[-1] == {
        "coverage": "1.0",
        "retracing": "1.0",
        "entropy": "2.0",
        "step": "3.0",
    }
