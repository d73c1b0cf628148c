"""R^2 of a reward head on episodes: whose tasks it knows, and how many were of none of them."""

import tiny_models
import tiny_world
import torch
from tiny_optimization import ROBOT, write_recordings

from whale.data.storage.shards import ShardSet
from whale.evaluation.reward.head_quality import LEFT_OUT, RECONSTRUCTED, RECORDED, head_r2
from whale.reward.reward import RewardHead, RewardHeadConfig


def head(instruction: str) -> RewardHead:
    torch.manual_seed(1)
    about = {"instructions": [instruction], "bounds": [-1.0, 1.0], "encoder": tiny_world.encoder()}
    return RewardHead(RewardHeadConfig(feature_size=128, action_size=7, hidden=8, **about)).eval()


def test_episodes_of_a_task_that_the_head_does_not_know_are_counted_and_end_no_training(tmp_path):
    write_recordings(tmp_path)
    shards, tokenizer = ShardSet.open(tmp_path / ROBOT), tiny_models.tokenizer()
    known = head_r2(head(""), tokenizer, shards, "train", 3, tiny_models.WINDOW)  # tiny shards say no words
    assert set(known) == {RECORDED, RECONSTRUCTED} and None not in known.values()
    assert head_r2(head("fold the towel"), tokenizer, shards, "train", 3, tiny_models.WINDOW) == {LEFT_OUT: 3.0}
