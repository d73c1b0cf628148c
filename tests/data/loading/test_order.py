"""Order: kill anywhere, go on with any number of workers, and the same samples come in the same order, each once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from loader_process import GLOBAL_BATCH, NUM_STEPS, digest, make_loader, open_all, plan_of
from tiny_shards import write_tiny_shards

from whale.common.errors import ConfigError, RefusedError
from whale.data.loading.loader import SegmentLoader
from whale.data.loading.receipt import rank_ledger
from whale.data.loading.sampler import SegmentSampler, rank_slice
from whale.data.storage.shards import ShardSet

TESTS = Path(__file__).parents[2]


def global_batch(loaders: list[SegmentLoader], step: int) -> dict[str, np.ndarray]:
    batches = [loader.batch(step) for loader in loaders]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return open_all(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def straight(shards):
    """Digest of every global batch of an uninterrupted run on one worker."""
    loader = make_loader(shards, plan_of(shards))
    return [digest(loader.batch(step)) for step in range(NUM_STEPS)]


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("killed_at", [0, 1, 7, 13, 14, 29])
def test_after_a_kill_any_number_of_workers_goes_on_with_the_same_samples(shards, straight, killed_at, world_size):
    plan = plan_of(shards)
    saved = json.loads(json.dumps(make_loader(shards, plan).position(killed_at)))  # through a file
    loaders = [make_loader(shards, plan, rank, world_size) for rank in range(world_size)]
    for loader in loaders:
        loader.resume(saved)
    assert {loader.step for loader in loaders} == {killed_at}
    for step in range(killed_at, min(killed_at + 3, NUM_STEPS)):
        assert digest(global_batch(loaders, step)) == straight[step]


@pytest.mark.parametrize("kills", range(20))  # 100 kills in all
def test_the_ids_of_a_run_killed_five_times_are_those_of_a_straight_run(shards, kills):
    """Each time another number of workers; at most the step of the kill is taken again."""
    sampler, rng = SegmentSampler(plan_of(shards)), np.random.default_rng(kills)
    ledger, step = [], 0
    for _ in range(6):
        world_size, stop = int(rng.choice([1, 2, 4, 8])), step + int(rng.integers(1, 9))
        for current in range(step, stop):
            parts = [rank_slice(current, GLOBAL_BATCH, rank, world_size) for rank in range(world_size)]
            ledger += [draw for part in parts for draw in sampler.draws(part.start, part.stop)]
        step = stop
    assert ledger == sampler.draws(0, step * GLOBAL_BATCH)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_ranks_overlap_in_nothing_and_miss_nothing(world_size):
    ledger = rank_ledger(24, world_size, 11)
    assert (ledger["overlap"], ledger["missing"]) == (0, 0)
    assert [rank["draws"] for rank in ledger["ranks"]] == [11 * 24 // world_size] * world_size


def test_another_mixture_seed_or_data_is_refused_with_the_differences(shards, tmp_path):
    saved = make_loader(shards, plan_of(shards)).position(5)
    with pytest.raises(RefusedError) as caught:
        make_loader(shards, plan_of(shards, fleet_a=2.0, fleet_b=2.0, one=0.5)).resume(saved)
    assert "datasets.fleet_a.per_block: 4 -> 6" in str(caught.value)
    with pytest.raises(RefusedError, match="seed: 0 -> 1"):
        make_loader(shards, plan_of(shards, seed=1)).resume(saved)
    with pytest.raises(RefusedError, match=r"datasets\.one\.name|datasets\.one\.per_block: 2 -> absent"):
        make_loader(shards, plan_of(shards, fleet_a=1.0, fleet_b=2.0)).resume(saved)
    other = {**shards, "fleet_a": ShardSet.open(write_tiny_shards(tmp_path / "fleet_a", "fleet_a", [7, 2, 12], seed=9))}
    with pytest.raises(RefusedError, match=r"fleet_a\.shards_digest"):
        make_loader(other, plan_of(other)).resume(saved)


def test_a_position_inside_a_step_and_workers_that_do_not_divide_the_batch_are_refused(shards):
    plan = plan_of(shards)
    with pytest.raises(RefusedError, match="inside a step"):
        make_loader(shards, plan).resume({"next_sample": 12, "plan": plan.model_dump(mode="json")})
    with pytest.raises(ConfigError, match=r"\[1, 2, 4, 8\]"):
        make_loader(shards, plan, world_size=3)


def test_a_loader_process_killed_with_sigkill_goes_on_without_losing_or_repeating_a_sample(shards, tmp_path):
    root = next(iter(shards.values())).directory.parent
    state, ledger = tmp_path / "state.json", tmp_path / "ledger"
    command = [sys.executable, str(TESTS / "loader_process.py"), str(root), str(state), str(ledger)]
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    for lines in (3, 11):  # two kills
        process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 600
        while not ledger.exists() or ledger.read_bytes().count(b"\n") < lines:
            assert time.monotonic() < deadline and process.poll() in (None, 0)
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=environment, check=True, timeout=600)
    whole = [json.loads(line) for line in ledger.read_text().splitlines() if line.endswith("]")]
    by_step = {step: (ids, sha) for step, ids, sha in whole}
    loader = make_loader(shards, plan_of(shards))
    for step in range(NUM_STEPS):
        ids, sha = by_step[step]
        assert ids == list(range(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH))
        assert sha == digest(loader.batch(step))
    repeated = len(whole) - len(by_step)
    assert repeated <= 2, "a step whose state was not yet saved is taken again, as a training step is"
