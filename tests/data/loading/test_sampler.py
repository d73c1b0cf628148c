import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whale.common.errors import ConfigError, MismatchError, MissingInputError
from whale.data.loading.sampler import Plan, PlannedDataset, SegmentSampler, permute, single_dataset_plan

small = settings(max_examples=60, deadline=None, derandomize=True)


def make_plan(counts: dict[str, tuple[int, int]], seed: int = 0) -> Plan:
    """`counts`: dataset -> (draws per block, segments)."""
    block = sum(per_block for per_block, _ in counts.values())
    datasets = [
        PlannedDataset(
            name=name, weight_raw=1.0, weight_source="test", share=per_block / block, per_block=per_block,
            num_segments=num_segments, shards_digest="0",
        )
        for name, (per_block, num_segments) in counts.items()
    ]  # fmt: skip
    fields = {"split": "train", "window": 8, "phases": 2, "provenance": "test"}
    return Plan(seed=seed, block=block, datasets=datasets, **fields).sealed()


MIXED = {"fleet_a": (5, 3), "fleet_b": (7, 40), "fleet_c": (1, 1)}


@small
@given(st.integers(1, 300), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection_of_any_size(size, key):
    everything = np.arange(size, dtype=np.uint64)
    permuted = permute(everything, np.full_like(everything, size), np.full_like(everything, key))
    assert sorted(permuted.tolist()) == list(range(size))


def test_permute_does_not_need_its_neighbours():
    size, key = np.uint64(2**40 + 7), np.uint64(5)
    some = np.array([0, 1, 2**40, 12345], np.uint64)
    together = permute(some, np.full_like(some, size), np.full_like(some, key))
    alone = [permute(some[i : i + 1], np.array([size]), np.array([key]))[0] for i in range(4)]
    assert together.tolist() == alone and (together < size).all()


@small
@given(st.integers(0, 500), st.integers(0, 60), st.integers(0, 60))
def test_draws_are_a_pure_function_of_the_index(start, first, second):
    sampler = SegmentSampler(make_plan(MIXED))
    whole = sampler.draws(start, start + first + second)
    assert whole == sampler.draws(start, start + first) + sampler.draws(start + first, start + first + second)
    assert [draw.index for draw in whole] == list(range(start, start + first + second))


def test_every_block_holds_exactly_the_planned_counts():
    datasets, _ = SegmentSampler(make_plan(MIXED)).arrays(0, 13 * 20)
    for block in datasets.reshape(20, 13):
        assert np.bincount(block, minlength=3).tolist() == [5, 7, 1]


def test_at_every_block_end_each_segment_came_once_per_epoch_also_when_segments_are_fewer_than_draws():
    sampler = SegmentSampler(make_plan(MIXED))
    for name, (per_block, num_segments) in MIXED.items():
        for blocks in (1, 2, 7, 40, 60):
            drawn = [draw.segment for draw in sampler.draws(0, 13 * blocks) if draw.dataset == name]
            counts = np.bincount(drawn, minlength=num_segments)
            full_epochs, rest = divmod(per_block * blocks, num_segments)
            assert sorted(counts) == [full_epochs] * (num_segments - rest) + [full_epochs + 1] * rest


def test_epochs_are_exact_whenever_a_block_ends_with_one():
    plan = single_dataset_plan("fleet_a", 50, seed=3, window=8, phases=2, shards_digest="0")
    _, segments = SegmentSampler(plan).arrays(0, 150)
    epochs = segments.reshape(3, 50)
    assert (np.sort(epochs) == np.arange(50)).all()
    assert not (epochs[0] == epochs[1]).all(), "epochs differ in order"


def test_seed_and_epoch_change_the_order_but_another_dataset_does_not():
    alone = SegmentSampler(make_plan({"fleet_a": (4, 16)}))
    joined = SegmentSampler(make_plan({"fleet_a": (4, 16), "fleet_b": (4, 16)}))
    other_seed = SegmentSampler(make_plan({"fleet_a": (4, 16)}, seed=1))
    ids = [sorted(draw.segment for draw in alone.draws(4 * b, 4 * b + 4)) for b in range(4)]
    beside = [sorted(d.segment for d in joined.draws(8 * b, 8 * b + 8) if d.dataset == "fleet_a") for b in range(4)]
    assert ids == beside
    assert [draw.segment for draw in other_seed.draws(0, 16)] != [draw.segment for draw in alone.draws(0, 16)]


def test_order_looks_random():
    plan = single_dataset_plan("fleet_a", 4000, seed=0, window=8, phases=2, shards_digest="0")
    _, segments = SegmentSampler(plan).arrays(0, 4000)
    assert abs(np.corrcoef(np.arange(4000), segments)[0, 1]) < 0.05
    assert abs(np.corrcoef(segments[:-1], segments[1:])[0, 1]) < 0.05


def test_the_order_is_the_same_for_ever():
    datasets, segments = SegmentSampler(make_plan(MIXED)).arrays(10**12, 10**12 + 12)
    assert datasets.tolist() == GOLDEN_DATASETS
    assert segments.tolist() == GOLDEN_SEGMENTS


def test_a_plan_survives_its_file_and_an_edited_one_is_refused(tmp_path):
    plan = make_plan(MIXED)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"pretrain": plan.model_dump(mode="json")}))
    assert Plan.load(path, "pretrain") == plan
    with pytest.raises(MissingInputError):
        Plan.load(path, "dynamics")
    edited = plan.model_dump(mode="json") | {"seed": 5}
    path.write_text(json.dumps({"pretrain": edited}))
    with pytest.raises(MismatchError):
        Plan.load(path, "pretrain")
    path.write_text(json.dumps({"pretrain": edited | {"block": 12}}))
    with pytest.raises(ConfigError, match="block"):
        Plan.load(path, "pretrain")


GOLDEN_DATASETS = [0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 2, 0]
GOLDEN_SEGMENTS = [0, 6, 30, 1, 8, 17, 22, 20, 1, 0, 0, 2]
