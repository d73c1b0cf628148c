"""Faults read in other projects' code, one test each (the name says whose): shards, order, mixture, statistics."""

import numpy as np
import pytest
from loader_process import GLOBAL_BATCH, make_loader, open_all, plan_of
from rlds_fixture import episodes, tiny_spec, write_rlds
from tiny_shards import write_tiny_shards

from whale.common.errors import BadDataError
from whale.data.ingest.finish import finish
from whale.data.ingest.ingest import IngestConfig, plan_tasks, process_source_shard
from whale.data.ingest.quality.gate import QualityConfig
from whale.data.ingest.statistics import action_statistics
from whale.data.loading.receipt import rank_ledger
from whale.data.loading.sampler import SegmentSampler, single_dataset_plan
from whale.data.mixture import largest_remainder, normalized
from whale.data.segments.actions import ActionNormalizer
from whale.data.storage.shards import ShardSet


def ingest(folder, raw):
    quality = QualityConfig(policy="fail", budget=0)
    config = IngestConfig(resolution=16, jpeg_quality=95, shard_bytes=2**20, max_bad=0, quality=quality)
    tasks = plan_tasks(raw, tiny_spec(), config, folder / "work", folder)
    for task in tasks:
        process_source_shard(task)
    finish(tasks, folder / "work", folder / "out")
    return ShardSet.open(folder / "out")


def test_openpi_asserts_that_float_weights_sum_to_one_and_ivideogpts_do_not():
    weights = {f"d{n}": weight for n, weight in enumerate([0.1] * 7 + [0.3000000000000007])}
    assert sum(weights.values()) != 1.0
    shares = normalized(weights)
    assert sum(shares.values()) == 1 and sum(largest_remainder(shares, 1000).values()) == 1000


def test_webdataset_resampled_draws_3723_of_4096_and_we_draw_all():
    plan = single_dataset_plan("d", 4096, 0, window=8, phases=2, shards_digest="0")
    _, segments = SegmentSampler(plan).arrays(0, 4096)
    assert len(np.unique(segments)) == 4096


def test_openvla_ranks_differ_by_shuffle_luck_and_ours_cover_everything_once():
    for world_size in (1, 2, 4, 8):
        ledger = rank_ledger(GLOBAL_BATCH, world_size, 50)
        assert (ledger["overlap"], ledger["missing"]) == (0, 0)


def test_lerobot_workers_idle_when_they_exceed_files_and_ours_do_not(tmp_path):
    shards = open_all(tmp_path)
    plan = plan_of(shards)
    ids = [make_loader(shards, plan, rank, 8).batch(0)["sample_index"].tolist() for rank in range(8)]
    assert [len(each) for each in ids] == [1] * 8 and sorted(one for each in ids for one in each) == list(range(8))


def test_openpi_and_gr00t_lose_the_loaders_place_on_resume_or_fix_the_worker_count(tmp_path):
    shards = open_all(tmp_path)
    plan = plan_of(shards)
    saved = make_loader(shards, plan, rank=0, world_size=4).position(6)
    resumed = make_loader(shards, plan)
    resumed.resume(saved)
    assert next(iter(resumed))[1]["sample_index"].tolist() == list(range(48, 56))


def test_octo_and_openvla_take_statistics_of_all_splits_and_ours_ignore_val(tmp_path):
    train = [episodes([6, 9])]
    first = ingest(tmp_path / "a", write_rlds(tmp_path / "a", {"train": train, "val": [episodes([7], 1)]}))
    other = ingest(tmp_path / "b", write_rlds(tmp_path / "b", {"train": train, "val": [episodes([8], 2)]}))
    assert first.statistics == other.statistics and first.digest != other.digest


def test_octo_caches_statistics_by_source_text_so_changed_data_keep_the_old_ones_and_ours_do_not(tmp_path):
    first = ingest(tmp_path / "a", write_rlds(tmp_path / "a", {"train": [episodes([6])], "val": [episodes([7], 1)]}))
    other = ingest(tmp_path / "b", write_rlds(tmp_path / "b", {"train": [episodes([6], 9)], "val": [episodes([7], 1)]}))
    assert first.statistics != other.statistics


def test_lerobot_and_openpi_divide_by_a_dimension_that_never_moves():
    x = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    x[:, 2] = 0.25  # dead
    x[:, 4] = 0.0
    x[7, 4] = 1.0  # degenerate: q01 == q99 although it moved once
    normalizer = ActionNormalizer.from_statistics({"action": action_statistics([x], [True] * 7, 1)["action"]})
    unit = normalizer.normalize(x)
    assert np.isfinite(unit).all() and np.abs(unit[:, :6]).max() <= 1 and (unit[:, 2] == 0).all()
    np.testing.assert_allclose(normalizer.denormalize(unit)[:, 2], 0.25)


def test_jasmine_drops_short_episodes_with_a_print_and_ours_are_counted(tmp_path):
    raw = write_rlds(tmp_path, {"train": [episodes([6, 1, 1])], "val": [episodes([4], 1)]})
    assert ingest(tmp_path, raw).law.dropped["too_short"].episodes == 2


def test_openpi_hard_codes_a_dataset_length_and_ours_comes_from_the_manifest(tmp_path):
    shard_set = ShardSet.open(write_tiny_shards(tmp_path / "tiny", "tiny", [5, 7, 6]))
    assert int(shard_set.episodes("train").num_steps.sum()) == shard_set.law.kept["train"].steps == 18


def test_lerobots_unfinalised_parquet_is_read_as_garbage_and_ours_is_refused(tmp_path):
    directory = write_tiny_shards(tmp_path / "tiny", "tiny", [5])
    index = directory / "episodes.parquet"
    index.write_bytes(index.read_bytes()[:-30])
    with pytest.raises(BadDataError, match="changed size"):
        ShardSet.open(directory)
