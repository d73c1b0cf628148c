from collections import Counter
from itertools import islice

import numpy as np
import pytest
from tiny_shards import write_tiny_shards

from whale.common.errors import MismatchError
from whale.data.mixture import DatasetSegments, MixConfig, pretrain_plan
from whale.data.segments.grid import SegmentConfig, pad_frames
from whale.data.storage.shards import ShardSet
from whale.data.workbench.webdataset_export import webdataset_module

SEGMENTS = SegmentConfig(window=4, phases=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("webdataset")
    root = tmp_path_factory.mktemp("shards")
    sets = {name: ShardSet.open(write_tiny_shards(root / name, name, [9, 2, 6])) for name in ("fleet_a", "fleet_b")}
    weights = {"fleet_a": {"weight": 3.0, "source": "t"}, "fleet_b": {"weight": 1.0, "source": "t"}}
    mix = MixConfig.parse({"weights": weights, "dynamics": {"datasets": ["fleet_a"], "provenance": "t"}}, file="p")
    found = {name: DatasetSegments.count(shards, "train", SEGMENTS) for name, shards in sets.items()}
    plan = pretrain_plan(mix, SEGMENTS, found, seed=0)
    return root, sets, plan


def load(text: str) -> dict:
    module: dict = {}
    exec(compile(text, "exported.py", "exec"), module)
    return module


def test_stock_webdataset_draws_our_segments_with_our_shares(exported):
    root, sets, plan = exported
    drawn = list(islice(load(webdataset_module(plan, root))["pipeline"](seed=0, shuffle=20), 1200))
    counts = Counter(segment["key"].split("-train")[0] for segment in drawn)
    assert counts["fleet_a"] / 1200 == pytest.approx(0.75, abs=0.05)
    assert len({segment["key"] for segment in drawn}) == sum(each.num_segments for each in plan.datasets)
    segment = next(segment for segment in drawn if segment["key"] == "fleet_b-train-0000002+2")
    row = sets["fleet_b"].episodes("train")[2]
    np.testing.assert_array_equal(segment["frames"], pad_frames(sets["fleet_b"].read_frames(row, 2, 6), 5))
    np.testing.assert_array_equal(segment["action"][:3], sets["fleet_b"].read_arrays(row)["action"][2:5])
    assert segment["action_valid"].tolist() == [True, True, True, False]


def test_an_equal_seed_gives_equal_draws(exported):
    root, _, plan = exported
    text = webdataset_module(plan, root)
    first, second = ([s["key"] for s in islice(load(text)["pipeline"](seed=4), 30)] for _ in range(2))
    assert first == second


def test_shards_of_another_plan_are_refused(exported, tmp_path):
    _, _, plan = exported
    for name in ("fleet_a", "fleet_b"):
        write_tiny_shards(tmp_path / name, name, [9, 2, 7])
    with pytest.raises(MismatchError, match="other shards"):
        webdataset_module(plan, tmp_path)
