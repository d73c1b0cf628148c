"""The reward head's training: rewards that belong to the frames, and a stage that gives the same bytes twice."""

import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tiny_models as tiny
import tiny_training as runs
import torch
from tiny_shards import SIZE, write_encoded_shards, write_tiny_shards

from pipelines import train_reward
from whale.common.errors import BadDataError
from whale.common.json_files import write_json
from whale.common.run import Run
from whale.data.segments.grid import SegmentConfig
from whale.data.storage.shards import ShardSet
from whale.models.trunk.folder import save_model
from whale.reward.reading import encoder_digest
from whale.reward.reward import RewardHead
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.tasks.reward import task
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
        began = batch["first"].mean(axis=(1, 2))
        assert (np.round(began[:, 0] / 10) == 0).all() and not batch["task"].any()
        np.testing.assert_array_equal(np.round(began[:, 1] / 20), np.round(shown[:, 0, 1] / 20))
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
        begun = tokenizer.latents(tokenizer.pixels(torch.from_numpy(plain.batch(0)["first"])[1:2, None])).flatten()
    np.testing.assert_allclose(batch["features"][1, 3, 0], alone.numpy(), atol=1e-5)
    np.testing.assert_allclose(batch["features"][1, 3, 1], again.numpy(), atol=1e-5)
    np.testing.assert_allclose(batch["first"][1], begun.numpy(), atol=1e-5)


def stage(root: Path, out: Path, shards: Path, config: TrainRewardConfig) -> dict[str, bytes]:
    """The stage by hand; `root` has the tokenizer, and gets what `mix` would say of these shards."""
    sets = {path.name: ShardSet.open(path) for path in sorted(shards.iterdir())}
    read = PixelInputs(shards, None, SEGMENTS, SIZE, seed=0)
    loader = read.loader(Communicator(), 4, stream="reward", kind=RewardSegments)
    write_json(root / "mix/plan.json", {"pretrain": loader.sampler.plan.model_dump(mode="json")})
    write_json(root / "mix/statistics.json", {name: each.statistics for name, each in sets.items()})
    args = train_reward.Args(
        item="head", shards=shards, mix=root / "mix", tokenizer=root / "tokenizer", train_reward=config,
        segments=SEGMENTS, seed=0,
    )  # fmt: skip
    out.mkdir(parents=True)
    train_reward.run(args, Run(out, args, work=out.parent / f"{out.name}-state", stage="train_reward"))
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def config(steps: int, role: str = "pretrain", **changes) -> TrainRewardConfig:
    values = {"role": role, "hidden": 16, "test_split": "train", "test_episodes": 4}
    return TrainRewardConfig(**values, optimization=runs.optimization(steps).model_copy(update=changes))


def test_the_stage_gives_the_same_bytes_twice_and_a_receipt_of_what_it_drew(folder, tmp_path):
    first, second = (stage(folder, tmp_path / name, folder / "shards", config(6)) for name in "ab")
    assert first == second
    assert json.loads(first["receipt.json"])["num_draws"] == 24
    head = RewardHead.restore(tmp_path / "a")
    assert head.config.feature_size == 128 and head.config.bounds == [0.0, 304.0] and head.config.instructions == [""]
    assert head.config.encoder == encoder_digest(tiny.tokenizer())


def moving_square(folder: Path, reward_of) -> Path:
    """A bright square moves to the right; the reward is a function of where an action brought it."""

    def picture(place):
        image = np.full((SIZE, SIZE, 3), 30, np.uint8)
        image[4:12, place : place + 4] = 220
        return simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="444")

    places = [[(step + shift) % 12 for step in range(10)] for shift in range(6)]
    frames = [[picture(place) for place in episode] for episode in places]
    rewards = [np.array([reward_of((place + 1) % 12) for place in episode], np.float32) for episode in places]
    still = [np.zeros((10, 7), np.float32)] * 6
    write_encoded_shards(folder / "blocks", "blocks", frames, still, SIZE, rewards=rewards)
    return folder


@pytest.mark.parametrize("role", ["pretrain", "finetune"])
def test_the_head_reads_rewards_off_frames_and_says_how_well(folder, tmp_path, role):
    shards = moving_square(tmp_path / "shards", lambda place: place / 12)
    stage(folder, tmp_path / "head", shards, config(150, role, max_lr=1e-2))
    head = RewardHead.restore(tmp_path / "head")
    assert set(head.config.r2["blocks"]) == {"recorded", "reconstructed"} and head.config.r2["blocks"]["recorded"] > 0.8
    assert head.config.bounds == [0.0, pytest.approx(11 / 12)]


def test_rewards_that_never_change_are_nothing_to_learn(folder, tmp_path):
    with pytest.raises(BadDataError, match="no reward to learn from"):
        stage(folder, tmp_path / "head", moving_square(tmp_path / "shards", lambda place: 0.0), config(6))


def test_instructions_that_somebody_typed_are_no_tasks(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "TASKS", 0)
    with pytest.raises(BadDataError, match=r"(?s)more instructions.*found:\s+1"):
        stage(folder, tmp_path / "head", folder / "shards", config(6))
