"""A reward head learns what frames show, says how well on episodes it has not seen, and is the same every time."""

import numpy as np
import pytest
import simplejpeg
import tiny_models
import torch
from tiny_shards import write_encoded_shards

from whale.common.errors import BadDataError
from whale.data.storage.shards import ShardSet
from whale.models.trunk.folder import save_model
from whale.models.world.learned import LearnedWorld
from whale.trials.reward_fit import RewardFitConfig, fit_reward
from whale.worlds.reward_head import RewardHead

CONFIG = RewardFitConfig(episodes=8, hidden=16, steps=120, batch_size=32, lr=3e-3, weight_decay=0.01, val_split="train",
                         test_split="train")  # fmt: skip


@pytest.fixture(scope="module")
def world():
    torch.set_num_threads(1)
    models = tiny_models.tokenizer().eval(), tiny_models.behavior().eval(), tiny_models.dynamics().eval()
    return LearnedWorld(*models, window=4)


def shards(tmp_path, reward_of) -> ShardSet:
    """A bright square moves to the right; the reward is a function of where an action brought it."""

    def picture(place):
        image = np.full((16, 16, 3), 30, np.uint8)
        image[4:12, place : place + 4] = 220
        return simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="444")

    places = [[(step + shift) % 12 for step in range(10)] for shift in range(6)]
    frames = [[picture(place) for place in episode] for episode in places]
    rewards = [np.array([reward_of((place + 1) % 12) for place in episode], np.float32) for episode in places]
    actions = [np.zeros((10, 7), np.float32)] * 6
    return ShardSet.open(write_encoded_shards(tmp_path, "blocks", frames, actions, 16, rewards=rewards))


def test_it_reads_the_reward_off_frames_and_equal_seeds_give_equal_bytes(world, tmp_path):
    data = shards(tmp_path, lambda step: step / 12)
    heads = [fit_reward(world, data, CONFIG, seed=3, tokenizer="a" * 64) for _ in range(2)]
    assert heads[0].config.r2["recorded"] > 0.8 and set(heads[0].config.r2) == {"recorded", "reconstructed"}
    for name, value in heads[0].state_dict().items():
        assert torch.equal(value, heads[1].state_dict()[name])
    assert heads[0].config.bounds == [pytest.approx(0), pytest.approx(11 / 12)]
    (tmp_path / "head").mkdir()
    save_model(tmp_path / "head", heads[0])
    assert RewardHead.restore(tmp_path / "head").config == heads[0].config


def test_rewards_that_never_change_are_nothing_to_learn(world, tmp_path):
    with pytest.raises(BadDataError, match="no reward to learn from"):
        fit_reward(world, shards(tmp_path, lambda step: 0.0), CONFIG, seed=3, tokenizer="a" * 64)
