import json
import os

import numpy as np
import pytest

from whale.cli import run
from whale.common.config import load_yaml
from whale.data.loading.sampler import SegmentSampler
from whale.data.mixture import DatasetSegments, MixConfig, pretrain_plan
from whale.data.segments.grid import SegmentConfig
from whale.planning.datasets import load_facts
from whale.planning.mixture_table import mixture_rows, totals

SEGMENTS = SegmentConfig(window=16, phases=2)


@pytest.fixture(scope="module")
def whale_x(project_root):
    path = project_root / "profiles/whale-x.yaml"
    return MixConfig.parse(load_yaml(path)["mix"], file=path, place="mix")


def test_table_11_stands_beside_its_normalised_and_its_derived_form(project_root, whale_x):
    rows = mixture_rows(load_facts(project_root), whale_x)
    sums = totals(rows)
    assert len(rows) == 27 and round(sums["printed"], 6) == 94.8
    assert [row.name for row in rows if row.printed == "<0.1"] == [
        "ucsd_kitchen_dataset_converted_externally_to_rlds",
        "dlr_edan_shared_control_converted_externally_to_rlds",
    ]
    for column in ("printed_normalized", "w_times_n", "share"):
        assert sums[column] == pytest.approx(100)
    equal = [row for row in rows if row.printed in (f"{row.w_times_n_fitted:.1f}", "<0.1")]
    assert len(equal) == 22
    assert sums["draws"] == whale_x.block and min(row.draws for row in rows) >= 5


def test_all_27_are_exact_at_block_ends_and_within_half_a_percent_from_2000_draws_on(whale_x):
    found = {name: DatasetSegments(1 + 37 * i, 100, 9, "0") for i, name in enumerate(sorted(whale_x.weights))}
    plan = pretrain_plan(whale_x, SEGMENTS, found, seed=0)
    shares = np.array([dataset.share for dataset in plan.datasets])
    datasets, _ = SegmentSampler(plan).arrays(0, 3 * plan.block)
    drawn = np.zeros((len(datasets), len(shares)), np.int32)
    drawn[np.arange(len(datasets)), datasets] = 1
    counts = np.cumsum(drawn, axis=0)
    for block in (1, 2, 3):
        assert counts[block * plan.block - 1].tolist() == [block * each.per_block for each in plan.datasets]
    prefix = np.arange(1, len(datasets) + 1)[1999:, None]
    assert np.abs(counts[1999:] / prefix - shares).max() < 0.005


def test_the_verb_prints_every_dataset_and_the_sums(project_root, monkeypatch, capsys):
    monkeypatch.chdir(project_root)
    assert run(["mix", "show", "--params", "profiles/whale-x.yaml", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["rows"]) == 27 and shown["sums"]["printed"] == pytest.approx(94.8)
    assert run(["mix", "show", "--params", "profiles/whale-x.yaml"]) == 0
    assert "<0.1" in capsys.readouterr().out
    assert run(["mix", "show", "--params", os.devnull + "x"]) == 2


def test_a_profile_shows_its_own_datasets_and_those_of_the_paper_only_when_asked(project_root, monkeypatch, capsys):
    monkeypatch.chdir(project_root)
    assert run(["mix", "show", "--params", "profiles/demo.yaml"]) == 0
    said = capsys.readouterr().out
    assert "fleet_delta" in said and "kuka" not in said and "27 datasets of the paper's Table 11" in said
    assert run(["mix", "show", "--params", "profiles/demo.yaml", "--all"]) == 0
    said = capsys.readouterr().out
    assert said.index("fleet_delta") < said.index("kuka")
