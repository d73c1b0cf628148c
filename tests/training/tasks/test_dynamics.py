"""One shape of z from the behavior model's config to the loss of the dynamics."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import tiny_training as runs
import torch
from tiny_shards import encode, write_tiny_shards

from whale.data.segments.grid import SegmentConfig
from whale.data.segments.token_shards import ZSet, write_manifest
from whale.data.storage.shards import ShardSet
from whale.models.trunk.folder import save_model
from whale.runtime.embedding.behavior_embedder import load_embedder, prior_digest
from whale.runtime.maps.segment_maps import embed_shard, grid_of_shards, shard_tasks, tokenize_shard
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs, TokenInputs
from whale.training.tasks.behavior import steps_before
from whale.training.tasks.dynamics import TrainDynamicsConfig, new_dynamics

SEGMENTS = SegmentConfig(window=tiny.WINDOW, phases=2)
BATCH, NUM_CODES = 4, 2**16


def write_samples(shards: Path, out: Path, kind: str, function, state) -> None:
    fragments = [function(state, task) for task in shard_tasks(shards, out, SEGMENTS)]
    write_manifest(out, kind, shards.name, grid_of_shards(shards, SEGMENTS), "made by a test", fragments)


def trains(model: torch.nn.Module, batch: dict[str, np.ndarray]) -> bool:
    """Whether one backward pass reaches every weight with a finite gradient."""
    loss, _ = model.train()({name: torch.as_tensor(value) for name, value in batch.items()})
    loss.backward()
    return all(each.grad is not None and bool(each.grad.isfinite().all()) for each in model.parameters())


@pytest.mark.parametrize("z_shape", [(16, 16), (8, 16), (16, 8), (3, 5)], ids=str)
def test_a_z_of_any_shape_trains_behavior_and_dynamics(tmp_path, z_shape):
    shards = write_tiny_shards(tmp_path / "shards/fleet_a", "fleet_a", [7, 2, 12, 9])
    statistics = {"fleet_a": ShardSet.open(shards).statistics}
    behavior = tiny.behavior(num_categories=z_shape[0], num_classes=z_shape[1])
    pixels = PixelInputs(tmp_path / "shards", None, SEGMENTS, tiny.RESOLUTION, 0, noise_size=z_shape[0])
    loader = pixels.loader(Communicator(), BATCH, stream="behavior")
    assert trains(behavior, loader.batch(0))

    (tmp_path / "behavior").mkdir()
    save_model(tmp_path / "behavior", behavior)
    embedder = load_embedder(tmp_path / "behavior", statistics["fleet_a"], batch_segments=4)
    write_samples(shards, tmp_path / "z/fleet_a", "z", embed_shard, embedder)
    write_samples(shards, tmp_path / "tokens/fleet_a", "tokens", tokenize_shard, encode)
    inputs = TokenInputs(tmp_path / "tokens", tmp_path / "z", None, statistics, SEGMENTS, seed=0)
    assert inputs.z_shape() == z_shape
    entry = TrainDynamicsConfig(
        size=tiny.SIZE, behavior_conditioning=True, copy_bias=None, optimization=runs.optimization(1)
    )
    dynamics = new_dynamics(entry, num_codes=NUM_CODES, z_shape=inputs.z_shape(), seed=0)
    batch = inputs.loader(Communicator(), BATCH, stream="dynamics").batch(0)
    assert batch["uniform"].shape[-1] == z_shape[0]
    assert trains(dynamics, batch)


def test_a_prior_with_memory_trains_on_longer_samples_and_stores_z_from_before_the_segment(tmp_path):
    shards = write_tiny_shards(tmp_path / "shards/fleet_a", "fleet_a", [7, 2, 12, 9])
    opened = ShardSet.open(shards)
    behavior, memory = tiny.behavior(memory=7).eval(), 7
    before = steps_before(behavior.config, SEGMENTS.window)
    pixels = PixelInputs(tmp_path / "shards", None, SEGMENTS, tiny.RESOLUTION, 0, noise_size=16, history=before)
    batch = pixels.loader(Communicator(), BATCH, stream="behavior").batch(0)
    assert batch["action"].shape[1] == memory and trains(behavior, batch)

    for name, model in (("behavior", behavior), ("plain", tiny.behavior())):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name, model)
    assert prior_digest(tmp_path / "behavior") != prior_digest(tmp_path / "plain")  # the same tensors, another z
    embedder = load_embedder(tmp_path / "behavior", opened.statistics, batch_segments=4)
    write_samples(shards, tmp_path / "z/fleet_a", "z", embed_shard, embedder)
    table = ZSet.open(tmp_path / "z/fleet_a")
    row = max(opened.episodes("train"), key=lambda each: each.num_steps)
    stored = table.read(next(each for each in table.episodes("train") if each.key == row.key))
    taken = torch.from_numpy(embedder.normalizer.normalize(opened.read_arrays(row)["action"]))[None]
    with torch.no_grad():
        frames = behavior.pixels(opened.read_frames(row, 0, row.num_steps))[None]
        first = behavior.prior_log_probs(frames[:, :7], taken[:, :7])[0]  # steps 0 to 6
        second = behavior.prior_log_probs(frames[:, 4:11], taken[:, 4:11])[0]  # full: 3 of 7 stay, from step 4 on
    at_four = stored["z"][list(stored["starts"]).index(4)]
    np.testing.assert_allclose(at_four, torch.cat([first[4:], second[3:4]]).numpy(), atol=2e-3)
