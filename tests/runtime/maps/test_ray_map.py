import json
import os
import sys
from pathlib import Path

import pytest
import tiny_shards

from whale.common.errors import BadDataError, ConfigError
from whale.data.segments.grid import SegmentConfig
from whale.runtime.maps.ray_map import map_shards, pool_size
from whale.runtime.maps.segment_maps import shard_tasks, tokenize_shard
from whale.runtime.workers.process import environment

LENGTHS = [7, 2, 12, 1, 5]
SEGMENTS = SegmentConfig(window=4, phases=2)


def make_encode():
    return tiny_shards.encode


def tokenize_or_fail(state, task):
    if task is None:
        raise BadDataError("a frame is damaged", file="fleet.tar", place="byte 7")
    fragment = tokenize_shard(state, task)
    folder = Path(task.out_dir)
    (folder / f"{Path(task.file).stem}.json").write_text(json.dumps(fragment))
    (folder.parent / f"{folder.name}-pid-{os.getpid()}").touch()
    return fragment


class Count:
    done = 0

    def update(self, n=1):
        self.done += n


def test_local_results_come_in_the_order_of_the_items_with_one_state():
    states = []
    bar = Count()
    results = map_shards(
        lambda state, item: (state, 2 * item),
        [3, 1, 2],
        make_state=lambda: states.append(1) or "model",
        engine="local",
        progress=bar,
    )
    assert results == [("model", 6), ("model", 2), ("model", 4)] and len(states) == 1 and bar.done == 3
    assert map_shards(lambda state, item: item, [], make_state=dict, engine="ray") == []
    with pytest.raises(ConfigError, match="spark"):
        map_shards(lambda state, item: item, [1], make_state=dict, engine="spark")


def test_a_pool_has_no_more_workers_than_gpus_and_without_one_does_not_start():
    assert (pool_size(8, 2.0), pool_size(1, 2.0), pool_size(3, 1.5)) == (2, 1, 1)
    with pytest.raises(ConfigError, match="no free GPU") as caught:
        pool_size(8, 0)
    assert "execution.device" in caught.value.place and "map_engine" in caught.value.remedy


def test_a_ray_pool_writes_the_same_bytes_as_one_process_and_hands_errors_back(tmp_path):
    environment.apply()  # before ray reads its switches
    import ray

    for module in (tiny_shards, sys.modules[__name__]):  # the workers cannot import tests
        ray.cloudpickle.register_pickle_by_value(module)
    shards_dir = tiny_shards.write_tiny_shards(tmp_path / "fleet_a", "fleet_a", LENGTHS)
    for engine in ("local", "ray"):
        tasks = shard_tasks(shards_dir, tmp_path / engine, SEGMENTS)
        with pytest.raises(BadDataError, match="byte 7"):  # one start of Ray for both claims
            map_shards(tokenize_or_fail, [*tasks, None], make_state=make_encode, engine=engine, num_workers=2)
    files = {engine: all_files(tmp_path / engine) for engine in ("local", "ray")}
    assert files["local"] == files["ray"] and len(files["ray"]) == 6
    assert not (tmp_path / f"ray-pid-{os.getpid()}").exists()
    assert (tmp_path / f"local-pid-{os.getpid()}").exists()


def all_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
