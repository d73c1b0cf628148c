import numpy as np
import pytest
from tiny_shards import SIZE, write_tiny_shards

from whale.common.errors import BadDataError, ConfigError, RefusedError
from whale.data.loading.loader import PixelSegments, SegmentLoader, share_of_cores
from whale.data.loading.sampler import Draw, SegmentSampler, single_dataset_plan
from whale.data.mixture import DatasetSegments, MixConfig, pretrain_plan
from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import SegmentConfig
from whale.data.storage.shards import ShardSet

SEGMENTS = SegmentConfig(window=4, phases=2)
LENGTHS = {"fleet_a": [7, 2, 12], "fleet_b": [5, 30]}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> dict[str, ShardSet]:
    root = tmp_path_factory.mktemp("shards")
    return {name: ShardSet.open(write_tiny_shards(root / name, name, lengths)) for name, lengths in LENGTHS.items()}


@pytest.fixture(scope="module")
def sampler(shards) -> SegmentSampler:
    weights = {name: {"weight": weight, "source": "test"} for name, weight in (("fleet_a", 1.0), ("fleet_b", 2.0))}
    dynamics = {"datasets": ["fleet_a"], "provenance": "test"}
    config = MixConfig.parse({"weights": weights, "dynamics": dynamics, "block": 12}, file="params.yaml")
    found = {name: DatasetSegments.count(shard_set, "train", SEGMENTS) for name, shard_set in shards.items()}
    return SegmentSampler(pretrain_plan(config, SEGMENTS, found, seed=0))


def pixels(shards, jitter=True, seed=0, resolution=SIZE, decoded_bytes=0) -> PixelSegments:
    normalizers = {name: ActionNormalizer.from_statistics(each.statistics) for name, each in shards.items()}
    return PixelSegments(
        shards, "train", SEGMENTS, normalizers, resolution, jitter, seed, decoded_bytes=decoded_bytes, noise_size=16
    )


def take(loader: SegmentLoader, num_steps: int) -> list[dict]:
    batches = []
    for _, batch in loader:
        batches.append(batch)
        if len(batches) == num_steps:
            return batches
    raise AssertionError("a loader never ends")


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def joined(batches: list[dict]) -> dict:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def test_a_batch_has_the_promised_arrays(shards, sampler):
    (batch,) = take(SegmentLoader(sampler, pixels(shards), 6), 1)
    shapes = {name: (array.shape, array.dtype.name) for name, array in batch.items()}
    assert shapes == {
        "frames": ((6, 5, SIZE, SIZE, 3), "uint8"),
        "action": ((6, 4, 7), "float32"),
        "action_valid": ((6, 4), "bool"),
        "action_mask": ((6, 7), "bool"),
        "num_frames": ((6,), "int32"),
        "sample_index": ((6,), "int64"),
        "uniform": ((6, 4, 16), "float32"),
    }
    assert (batch["action"][~batch["action_valid"]] == 0).all() and np.abs(batch["action"]).max() <= 1


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_any_number_of_ranks_sees_the_same_global_batches(shards, sampler, world_size):
    alone = take(SegmentLoader(sampler, pixels(shards), 6), 4)
    ranks = [take(SegmentLoader(sampler, pixels(shards), 6, rank, world_size), 4) for rank in range(world_size)]
    for step in range(4):
        assert_same(alone[step], joined([batches[step] for batches in ranks]))


@pytest.mark.parametrize("start", [1, 3, 7])
def test_resuming_at_a_step_equals_going_straight_also_with_other_ranks(shards, sampler, start):
    straight = take(SegmentLoader(sampler, pixels(shards), 4), start + 2)[start:]
    resumed = take(SegmentLoader(sampler, pixels(shards), 4, start_step=start), 2)
    elastic = [take(SegmentLoader(sampler, pixels(shards), 4, rank, 2, start_step=start), 2) for rank in range(2)]
    for step in range(2):
        assert_same(straight[step], resumed[step])
        assert_same(straight[step], joined([batches[step] for batches in elastic]))


def test_the_position_is_the_next_step_and_can_be_set(shards, sampler):
    loader = SegmentLoader(sampler, pixels(shards), 4)
    steps = []
    for step, _ in loader:
        steps.append(step)
        if step == 2:
            break
    loader.step = 5
    assert steps == [0, 1, 2] and next(iter(loader))[0] == 5


def test_without_jitter_a_segment_is_the_grids_and_its_tail_is_padded(shards):
    plain = pixels(shards, jitter=False)
    batch = plain.fetch([Draw(0, "fleet_a", 1)])  # first episode: starts 0, 4, 2 of 7 frames
    sample = {name: array[0] for name, array in batch.items()}
    frames = shards["fleet_a"].read_frames(shards["fleet_a"].episodes("train")[0], 4, 7)
    assert sample["num_frames"] == 3 and sample["action_valid"].tolist() == [True, True, False, False]
    np.testing.assert_array_equal(sample["frames"][:3], frames)
    np.testing.assert_array_equal(sample["frames"][3:], frames[[2, 2]])


def test_the_receipt_counts_what_all_ranks_really_consumed(shards, sampler):
    loaders = [SegmentLoader(sampler, pixels(shards), 6, rank, 2) for rank in range(2)]
    batches = [batch for loader in loaders for batch in take(loader, 4)]  # 24 draws: two blocks of 12
    receipt = loaders[0].receipt(4)
    rows = receipt["datasets"]
    assert receipt["num_draws"] == 24 and loaders[0].receipt() == receipt
    assert {name: row["segments"] for name, row in rows.items()} == {"fleet_a": 8, "fleet_b": 16}
    assert all(row["segment_share"] == row["planned_share"] for row in rows.values()), "exact at a block's end"
    assert sum(row["valid_frames"] for row in rows.values()) == sum(int(b["num_frames"].sum()) for b in batches)
    drawn = {(draw.dataset, draw.segment) for draw in sampler.draws(0, 24)}
    assert sum(row["unique_segments"] for row in rows.values()) == len(drawn)


def test_a_batch_that_does_not_divide_is_refused_with_the_legal_numbers(shards, sampler):
    with pytest.raises(ConfigError, match=r"\[1, 2, 3, 6\]"):
        SegmentLoader(sampler, pixels(shards), 6, 0, 4)


def test_a_plan_of_other_data_or_another_cut_is_refused(shards):
    segments = pixels(shards)
    right = {"window": 4, "phases": 2, "shards_digest": segments.shards_digest("fleet_a")}
    number = segments.num_segments("fleet_a")
    SegmentLoader(SegmentSampler(single_dataset_plan("fleet_a", number, 0, **right)), segments, 2)
    for wrong in (right | {"window": 8}, right | {"shards_digest": "other"}):
        plan = single_dataset_plan("fleet_a", number, 0, **wrong)
        with pytest.raises(RefusedError, match="fleet_a"):
            SegmentLoader(SegmentSampler(plan), segments, 2)


def test_frames_of_another_resolution_are_refused(shards):
    with pytest.raises(BadDataError, match="another shape"):
        pixels(shards, resolution=64)


def test_a_damaged_frame_stops_training_and_names_where(tmp_path):
    shard_set = ShardSet.open(write_tiny_shards(tmp_path / "fleet_a", "fleet_a", [6]))
    (row,) = shard_set.episodes("train")
    offset = int(row.frames["primary"][0, 0])
    path = tmp_path / "fleet_a" / row.shard
    damaged = bytearray(path.read_bytes())
    damaged[offset + 40] ^= 1
    path.write_bytes(damaged)
    segments = pixels({"fleet_a": shard_set})
    digest = segments.shards_digest("fleet_a")
    plan = single_dataset_plan("fleet_a", 3, 0, window=4, phases=2, shards_digest=digest)
    with pytest.raises(BadDataError, match="bytes changed") as caught:
        take(SegmentLoader(SegmentSampler(plan), segments, 3), 8)  # jitter reaches frame 0 in some epoch
    assert "dataset fleet_a, episode fleet_a-train-0000000" in caught.value.__notes__[0]


@pytest.mark.parametrize(("decoded_bytes", "threads"), [(12 * SIZE * SIZE * 3, 1), (2**20, 1), (2**20, 3)])
def test_kept_frames_change_no_batch(shards, sampler, decoded_bytes, threads):
    """12 frames fit: the longest episode of one dataset; then all do."""
    kept = SegmentLoader(sampler, pixels(shards, decoded_bytes=decoded_bytes), 6, decode_threads=threads)
    for plain, other in zip(take(SegmentLoader(sampler, pixels(shards), 6), 12), take(kept, 12), strict=True):
        assert_same(plain, other)


def test_kept_frames_count_in_the_stated_memory(shards):
    """Never more than there are."""
    frames = sum(map(sum, LENGTHS.values())) * SIZE * SIZE * 3
    few = 3 * SIZE * SIZE * 3
    bounds = [pixels(shards, decoded_bytes=limit).memory_bound() for limit in (0, few + 1, frames, 10 * frames)]
    assert np.subtract(bounds[1:], bounds[0]).tolist() == [few, frames, frames]


HISTORY = 3


def with_history(shards, decoded_bytes=0) -> PixelSegments:
    normalizers = {name: ActionNormalizer.from_statistics(each.statistics) for name, each in shards.items()}
    return PixelSegments(
        shards,
        "train",
        SEGMENTS,
        normalizers,
        SIZE,
        True,
        0,
        decoded_bytes=decoded_bytes,
        noise_size=16,
        history=HISTORY,
    )


@pytest.mark.parametrize("decoded_bytes", [0, 10**6])
def test_a_sample_with_history_begins_before_its_segment_or_with_the_episode(shards, sampler, decoded_bytes):
    longer, plain = with_history(shards, decoded_bytes), pixels(shards)
    draws = sampler.draws(0, 40)
    batch, alone = longer.fetch(draws), plain.fetch(draws)
    assert batch["frames"].shape[1] == SEGMENTS.window + HISTORY + 1 == batch["action"].shape[1] + 1
    leads = set()
    for i, draw in enumerate(draws):
        rows = shards[draw.dataset].episodes("train")
        episode, start = longer._index[draw.dataset].start_of(draw.segment)
        start += longer._shifts([draw])[0]
        lead = min(start, HISTORY)
        leads.add(lead)
        count = batch["num_frames"][i]
        assert count == min(SEGMENTS.window + HISTORY + 1, rows[episode].num_steps - start + lead)
        frames = shards[draw.dataset].read_frames(rows[episode], start - lead, start - lead + int(count))
        np.testing.assert_array_equal(batch["frames"][i, :count], frames)
        segment = min(alone["num_frames"][i], count - lead)
        np.testing.assert_array_equal(batch["frames"][i, lead : lead + segment], alone["frames"][i, :segment])
        np.testing.assert_array_equal(batch["action"][i, lead : lead + segment - 1], alone["action"][i, : segment - 1])
    assert leads == {0, 1, 2, 3}


def test_frames_with_history_are_counted_as_they_are_drawn(shards, sampler):
    segments, draws = with_history(shards), sampler.draws(0, 30)
    found = segments.fetch(draws)["num_frames"]
    for i, draw in enumerate(draws):
        assert segments.valid_frames(draw.dataset, np.array([draw.segment]), np.array([draw.index])) == found[i]


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(2, 2, 1), (2, 0, 1), (16, 1, 6), (16, 0, 6), (192, 8, 6), (32, 8, 3), (8, 8, 1)]
)
def test_a_worker_decodes_with_its_share_of_the_cores_but_one(monkeypatch, cores, workers, threads):
    """One thread starved a behavior model on eight GPUs three to six times over."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    assert share_of_cores(workers) == threads
