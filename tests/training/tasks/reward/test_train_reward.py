"""The reward head's training: rewards that belong to the frames, and a stage that gives the same bytes twice."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import tiny_training as runs
import torch
from tiny_shards import SIZE, write_tiny_shards

from pipelines import train_reward
from whale.common.json_files import write_json
from whale.common.run import Run
from whale.data.segments.grid import SegmentConfig
from whale.data.storage.shards import ShardSet
from whale.models.reward.reward import RewardHead
from whale.models.trunk.folder import save_model
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.tasks.reward.segments import FeatureLoader, RewardSegments
from whale.training.tasks.reward.task import TrainRewardConfig

SEGMENTS = SegmentConfig(window=tiny.WINDOW, phases=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("reward")
    write_tiny_shards(root / "shards/blocks", "blocks", [9, 6, 12, 5], about=[{}] * 4)
    for name in ("tokenizer", "mix"):
        (root / name).mkdir()
    save_model(root / "tokenizer", tiny.tokenizer())
    return root


def inputs(root: Path) -> PixelInputs:
    return PixelInputs(root / "shards", None, SEGMENTS, SIZE, seed=0)


def test_rewards_are_those_of_the_steps_whose_frames_are_read_however_the_start_was_moved(folder):
    """Red tells a frame's step, green its episode; step s of episode e earns s + 100 e."""
    loader = inputs(folder).loader(Communicator(), 4, stream="reward", kind=RewardSegments)
    starts = set()
    for step in range(12):
        batch = loader.batch(step)
        shown = batch["frames"][:, :-1].mean(axis=(2, 3))
        expected = np.round(shown[..., 0] / 10) + 100 * np.round(shown[..., 1] / 20)
        valid = batch["action_valid"]
        np.testing.assert_array_equal(batch["reward"][valid], expected[valid])
        assert not batch["reward"][~valid].any() and (~valid).sum() >= 0
        starts |= set(expected[:, 0].tolist())
    assert len(starts) > 12


def test_features_are_those_of_each_frame_by_itself_recorded_and_reconstructed(folder):
    tokenizer = tiny.tokenizer().eval()
    plain = inputs(folder).loader(Communicator(), 3, stream="reward", kind=RewardSegments)
    _, batch = next(iter(FeatureLoader(plain, tokenizer)))
    frames = torch.from_numpy(plain.batch(0)["frames"])
    assert "frames" not in batch and batch["features"].shape == (3, tiny.WINDOW + 1, 2, 16 * 8)
    with torch.no_grad():
        alone = tokenizer.latents(tokenizer.pixels(frames[1:2, 3:4])).flatten()
        drawn = (tokenizer.decode(tokenizer.encode(tokenizer.pixels(frames)))[1:2, 3:4] * 255).round() / 255
        again = tokenizer.latents(drawn).flatten()
    np.testing.assert_allclose(batch["features"][1, 3, 0], alone.numpy(), atol=1e-5)
    np.testing.assert_allclose(batch["features"][1, 3, 1], again.numpy(), atol=1e-5)


def trained(root: Path, out: Path) -> dict[str, bytes]:
    statistics = {"blocks": ShardSet.open(root / "shards/blocks").statistics}
    segments = inputs(root).loader(Communicator(), 4, stream="reward", kind=RewardSegments)
    plan = segments.sampler.plan
    write_json(root / "mix/plan.json", {"pretrain": plan.model_dump(mode="json")})
    write_json(root / "mix/statistics.json", statistics)
    config = TrainRewardConfig(hidden=16, optimization=runs.optimization(6))
    args = train_reward.Args(
        item="head", shards=root / "shards", mix=root / "mix", tokenizer=root / "tokenizer", train_reward=config,
        segments=SEGMENTS, seed=0,
    )  # fmt: skip
    out.mkdir(parents=True)
    train_reward.run(args, Run(out, args, work=out.parent / f"{out.name}-state", stage="train_reward"))
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_the_stage_gives_the_same_bytes_twice_and_a_receipt_of_what_it_drew(folder, tmp_path):
    first, second = trained(folder, tmp_path / "a"), trained(folder, tmp_path / "b")
    assert first["model.safetensors"] == second["model.safetensors"] and first.keys() == second.keys()
    assert json.loads(first["receipt.json"])["num_draws"] == 24
    assert RewardHead.restore(tmp_path / "a").config.feature_size == 128
