from dataclasses import replace

import numpy as np
import pytest
from tiny_shards import write_tiny_shards

from whale.data.storage.shards import ShardSet
from whale.evaluation.measuring.groups import MOST, groups
from whale.evaluation.measuring.rollouts.heldout import Dataset, Windows, read_windows


def labelled(task, policy=None) -> Windows:
    frames = np.zeros((len(task), 2, 4, 4, 3), np.uint8)
    said = None if policy is None else np.array(policy)
    return Windows(frames, np.zeros((len(task), 1, 7), np.float32), np.arange(len(task)), [""] * len(task),
                   task=np.array(task), policy=said)  # fmt: skip


def test_each_task_and_then_each_policy_holds_its_windows_and_no_other():
    found = list(groups(labelled(["b", "a"] * 3, ["p"] * 3 + ["q"] * 3)))
    assert [(group.prefix, group.rows.tolist()) for group in found] == [
        ("task.a", [1, 3, 5]), ("task.b", [0, 2, 4]), ("policy.p", [0, 1, 2]), ("policy.q", [3, 4, 5])
    ]  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [["one"], [f"n{number}" for number in range(MOST + 1)], ["put the cup away", "b"], ["a.b", "c"], ["mean", "b"]],
)
def test_one_name_too_many_names_prose_and_the_name_of_the_mean_are_no_groups(names):
    assert list(groups(labelled(names * 3))) == []


def test_where_one_group_has_too_few_episodes_there_are_none():
    """Two windows of one episode are one thing to resample."""
    windows = labelled(["a"] * 4 + ["b"] * 3)
    assert [group.name for group in groups(windows)] == ["a", "b"]
    assert list(groups(replace(windows, episode=np.array([0, 1, 2, 3, 4, 5, 5])))) == []


def test_windows_know_the_task_and_policy_of_their_episode_and_keep_them_when_taken_or_repeated(tmp_path):
    about = [{"task": f"t{number % 2}", "policy": "p"} for number in range(3)]
    shards = ShardSet.open(write_tiny_shards(tmp_path / "blocks", "blocks", [9, 6, 9], about=about))
    dataset = Dataset("blocks", shards, None, None, None)
    windows = read_windows(dataset, "train", 6, 9, 2)
    assert windows.task.tolist() == [f"t{number % 2}" for number in windows.episode]
    assert windows.take(slice(1, None)).repeated(2).task.tolist() == np.repeat(windows.task[1:], 2).tolist()


def test_where_one_episode_names_no_policy_there_are_no_policies(tmp_path):
    about = [{"task": "a", "policy": "p"}, {"task": "b"}]
    shards = ShardSet.open(write_tiny_shards(tmp_path / "blocks", "blocks", [9, 9], about=about))
    windows = read_windows(Dataset("blocks", shards, None, None, None), "train", 6, 9, 1)
    assert windows.policy is None and windows.task.tolist() == ["a", "b"]
