"""One shape of z from the behavior model's config to the loss of the dynamics."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import tiny_training as runs
import torch
from tiny_shards import encode, write_tiny_shards

from whale.data.segments.grid import SegmentConfig
from whale.data.segments.token_shards import write_manifest
from whale.data.storage.shards import ShardSet
from whale.models.trunk.folder import save_model
from whale.runtime.embedding.behavior_embedder import load_embedder
from whale.runtime.maps.segment_maps import embed_shard, grid_of_shards, shard_tasks, tokenize_shard
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs, TokenInputs
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
