from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_shards import write_tiny_shards

from whale.common.errors import ConfigError, MissingInputError
from whale.data.loading.sampler import SegmentSampler
from whale.data.mixture import (
    DatasetSegments,
    MixConfig,
    dynamics_plan,
    largest_remainder,
    normalized,
    pretrain_plan,
    receipt,
)
from whale.data.segments.grid import SegmentConfig, open_each
from whale.data.storage.shards import ShardSet

small = settings(max_examples=60, deadline=None, derandomize=True)
SEGMENTS = SegmentConfig(window=8, phases=2)
FOUND = {
    "fleet_delta": DatasetSegments(40, 300, 5, "a"),
    "fleet_planar": DatasetSegments(8, 40, 2, "b"),
    "fleet_relabel": DatasetSegments(100, 900, 9, "c"),
}


def config(block=100, dynamics=("fleet_delta", "fleet_planar"), **weights) -> MixConfig:
    weights = weights or {"fleet_delta": 2.0, "fleet_planar": 1.0, "fleet_relabel": 1.0}
    values = {
        "weights": {name: {"weight": weight, "source": f"why {name}"} for name, weight in weights.items()},
        "dynamics": {"datasets": list(dynamics), "provenance": "assumption"},
        "block": block,
    }
    return MixConfig.parse(values, file="params.yaml", place="mix")


def test_weights_that_sum_to_anything_are_normalised_exactly():
    shares = normalized({"a": 0.1, "b": 0.2, "c": 0.7000000000000007})
    assert sum(shares.values()) == 1
    assert normalized({"a": 3.0, "b": 1.0}) == {"a": Fraction(3, 4), "b": Fraction(1, 4)}
    plan = pretrain_plan(
        config(fleet_delta=0.5, fleet_planar=0.25, fleet_relabel=0.2500000000000007), SEGMENTS, FOUND, seed=0
    )
    assert [dataset.per_block for dataset in plan.datasets] == [50, 25, 25]


@small
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=27), st.integers(1, 10_000))
def test_largest_remainder_fills_the_block_and_stays_within_one_draw(weights, block):
    shares = normalized({f"d{i:02d}": weight for i, weight in enumerate(weights)})
    counts = largest_remainder(shares, block)
    assert sum(counts.values()) == block
    assert all(abs(counts[name] - share * block) < 1 for name, share in shares.items())


def test_equal_remainders_go_to_the_first_names():
    thirds = {name: Fraction(1, 3) for name in "cba"}
    assert largest_remainder(thirds, 10) == {"a": 4, "b": 3, "c": 3}


def test_the_order_of_the_weights_does_not_matter_but_their_values_and_the_data_do():
    base = pretrain_plan(config(), SEGMENTS, FOUND, seed=0)
    reordered = pretrain_plan(config(fleet_relabel=1.0, fleet_planar=1.0, fleet_delta=2.0), SEGMENTS, FOUND, seed=0)
    assert base == reordered
    others = [
        pretrain_plan(config(), SEGMENTS, FOUND, seed=1),
        pretrain_plan(config(fleet_relabel=1.5, fleet_planar=1.0, fleet_delta=2.0), SEGMENTS, FOUND, seed=0),
        pretrain_plan(config(), SEGMENTS, FOUND | {"fleet_planar": DatasetSegments(8, 40, 2, "x")}, seed=0),
        pretrain_plan(config(), SegmentConfig(window=8, phases=1), FOUND, seed=0),
    ]
    assert len({plan.plan_digest for plan in [base, *others]}) == 5


def test_the_dynamics_plan_keeps_relative_weights_and_its_provenance():
    plan = dynamics_plan(config(block=30), SEGMENTS, FOUND, seed=0)
    assert {d.name: d.per_block for d in plan.datasets} == {"fleet_delta": 20, "fleet_planar": 10}
    assert plan.provenance == "assumption"
    assert receipt(plan, FOUND, 30)["absent"] == ["fleet_relabel"]


def test_the_receipt_is_what_a_block_of_draws_really_gives():
    plan = pretrain_plan(config(), SEGMENTS, FOUND, seed=0)
    expected = receipt(plan, FOUND, 200)["datasets"]
    drawn = [draw.dataset for draw in SegmentSampler(plan).draws(0, 200)]
    assert {name: row["expected_segments"] for name, row in expected.items()} == {
        name: drawn.count(name) for name in FOUND
    }
    assert expected["fleet_planar"]["expected_epochs"] == 50 / 8
    assert expected["fleet_delta"]["expected_frames"] == 100 * 300 / 40
    assert sum(row["expected_frame_share"] for row in expected.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("chosen", "found", "says"),
    [
        (config(fleet_delta=1.0, fleet_planer=1.0, fleet_relabel=1.0), FOUND, "did you mean 'fleet_planar'"),
        (config(fleet_delta=1.0, fleet_planar=1.0), FOUND, "shards without a weight"),
        (config(block=10, fleet_delta=1.0, fleet_planar=1e-3, fleet_relabel=1.0), FOUND, "0.005 of a block of 10"),
        (config(), FOUND | {"fleet_planar": DatasetSegments(0, 0, 3, "b")}, "without segments"),
    ],
)
def test_names_and_counts_that_do_not_fit_are_refused(chosen, found, says):
    with pytest.raises(ConfigError, match=says):
        pretrain_plan(chosen, SEGMENTS, found, seed=0)


def test_a_dynamics_dataset_without_weight_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'fleet_delta'"):
        dynamics_plan(config(dynamics=("fleet_delte",)), SEGMENTS, FOUND, seed=0)
    with pytest.raises(ConfigError, match="twice"):
        dynamics_plan(config(dynamics=("fleet_delta", "fleet_delta")), SEGMENTS, FOUND, seed=0)


def test_zero_and_negative_weights_are_refused():
    with pytest.raises(ConfigError, match=r"fleet_delta\.weight"):
        config(fleet_delta=0.0)


def test_segments_are_counted_from_shards_and_unfinished_folders_are_not_read(tmp_path):
    write_tiny_shards(tmp_path / "fleet_delta", "fleet_delta", [18, 1, 2])
    write_tiny_shards(tmp_path / ".fleet_planar.tmp", "fleet_planar", [5])
    datasets = open_each(tmp_path, ShardSet.open)
    assert list(datasets) == ["fleet_delta"]
    counted = DatasetSegments.count(datasets["fleet_delta"], "train", SEGMENTS)
    assert (counted.num_segments, counted.num_frames, counted.num_episodes) == (6, 9 + 9 + 2 + 9 + 6 + 2, 3)
    with pytest.raises(MissingInputError):
        open_each(tmp_path / "nothing", ShardSet.open)
