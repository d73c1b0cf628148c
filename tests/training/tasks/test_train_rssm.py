"""The recurrent model's training: equal bytes twice, and on the fleet's own frames better than the mean image."""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import tiny_models as tiny
import tiny_training as runs
import torch
from tiny_shards import SIZE, write_encoded_shards, write_tiny_shards

from pipelines import train_rssm
from whale.baselines.rssm.rssm import RSSM, noise_size
from whale.baselines.rssm_world import RSSMWorld
from whale.common.json_files import write_json
from whale.common.run import Run
from whale.data.segments.grid import SegmentConfig
from whale.data.storage.shards import ShardSet
from whale.evaluation.measuring.rollouts.fidelity import mean_image, psnr
from whale.models.world.rollout import rollout
from whale.sim.fleet.collect import FleetConfig, generate_episodes
from whale.sim.fleet.robots import ROBOTS
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.loop import fit
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.tasks.rssm import TrainRSSMConfig

SEGMENTS = SegmentConfig(window=tiny.WINDOW, phases=2)


def trained(root: Path, out: Path) -> dict[str, bytes]:
    config = TrainRSSMConfig(model=tiny.rssm_config(mean_residual=True), optimization=runs.optimization(6))
    args = train_rssm.Args(
        item="dreamer", shards=root / "shards", mix=root / "mix", train_rssm=config, segments=SEGMENTS, seed=0
    )
    out.mkdir(parents=True)
    train_rssm.run(args, Run(out, args, work=out.parent / f"{out.name}-state", stage="train_rssm"))
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_the_stage_gives_the_same_bytes_twice_and_begins_with_the_mean_image(tmp_path):
    write_tiny_shards(tmp_path / "shards/blocks", "blocks", [9, 6, 12, 5])
    statistics = {"blocks": ShardSet.open(tmp_path / "shards/blocks").statistics}
    inputs = PixelInputs(tmp_path / "shards", None, SEGMENTS, SIZE, seed=0)
    plan = inputs.loader(Communicator(), 4, stream="rssm").sampler.plan
    write_json(tmp_path / "mix/plan.json", {"pretrain": plan.model_dump(mode="json")})
    write_json(tmp_path / "mix/statistics.json", statistics)
    first, second = trained(tmp_path, tmp_path / "a"), trained(tmp_path, tmp_path / "b")
    assert first == second
    assert json.loads(first["receipt.json"])["num_draws"] == 24
    shown = RSSM.restore(tmp_path / "a").mean_logit.sigmoid()
    torch.testing.assert_close(shown, inputs.mean_image().clamp(0.02, 0.98))


def fleet_shards(folder: Path, size: int) -> Path:
    """Six episodes of the fleet's first robot, drawn small."""
    config = FleetConfig(
        robots=["fleet_delta"], train_episodes=6, val_episodes=1, test_episodes=1, min_steps=12, max_steps=16,
        train_shards=1, unseen_episodes_per_task=1, unseen_test_episodes_per_task=1, unseen_novel_episodes=1,
        unseen_min_steps=12, unseen_max_steps=16,
    )  # fmt: skip
    frames, actions = [], []
    for episode in generate_episodes(ROBOTS["fleet_delta"], "train", config, seed=0):
        steps = episode["steps"]
        parts = steps["action"].values()
        actions.append(np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).astype(np.float32))
        small = [cv2.resize(each, (size, size), interpolation=cv2.INTER_AREA) for each in steps["observation"]["image"]]
        frames.append([simplejpeg.encode_jpeg(each, quality=95, colorsubsampling="444") for each in small])
    return write_encoded_shards(folder, "fleet_delta", frames, actions, size)


@pytest.mark.slow
def test_a_short_training_on_the_fleet_imagines_better_than_the_mean_image(tmp_path):
    size, config = 32, tiny.rssm_config(resolution=32, channels=[16, 32, 32], hidden=64, state_size=64,
                                        num_categories=8, num_classes=8, mean_residual=True)  # fmt: skip
    shards = ShardSet.open(fleet_shards(tmp_path / "shards/fleet_delta", size))
    inputs = PixelInputs(
        tmp_path / "shards", None, SEGMENTS, size, seed=0, noise_size=noise_size(config, tiny.WINDOW), decode_threads=1
    )
    optimization = runs.optimization(200, save_every=1000).model_copy(update={"grad_clip": 100.0, "batch_size": 8})
    training = TrainRSSMConfig(model=config, optimization=optimization)
    task = partial(train_rssm.build, config=training, inputs=inputs)(Communicator())
    fit(task, StateFolder(tmp_path / "states"), Communicator())

    recorded, given, actions = [], 2, []
    normalizer = task.loader.segments.normalizers["fleet_delta"]
    for row in shards.episodes("train"):
        recorded.append(shards.read_frames(row, 0, 10))
        actions.append(normalizer.normalize(shards.read_arrays(row)["action"][:9]))
    truth = np.stack(recorded)
    world = RSSMWorld(task.model.eval(), tiny.WINDOW)
    steered = torch.from_numpy(np.stack(actions)).float()
    imagined = rollout(world, torch.from_numpy(truth[:, :given]), steered, 8)["frames"].numpy()
    constant = np.broadcast_to(mean_image(truth), truth[:, given:].shape)
    assert psnr(truth[:, given:], imagined).mean() > psnr(truth[:, given:], constant).mean()
