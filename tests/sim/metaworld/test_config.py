"""What a collection of Meta-World is asked for, without the simulator."""

from collections import Counter

import pytest
from metaworld_runs import CROSS, make_config

from whale.common.errors import ConfigError
from whale.sim.metaworld.collect import SPLITS, chunks
from whale.sim.metaworld.simulator.policies import SCRIPTED, TRAIN_POLICIES, UNSEEN_POLICIES
from whale.sim.metaworld.simulator.tasks import CHOSEN, NAMED, TASKS


def test_the_paper_names_five_of_its_twenty_tasks_and_ours_are_told_apart():
    assert (len(NAMED), len(CHOSEN), len(TASKS)) == (5, 15, 20)
    assert len(set(SCRIPTED)) == 50 and set(TASKS) <= set(SCRIPTED)


def test_no_policy_of_the_test_split_is_trained_on():
    assert not set(TRAIN_POLICIES) & set(UNSEEN_POLICIES)
    config = make_config()
    assert [config.policies(split) for split in SPLITS] == [TRAIN_POLICIES, TRAIN_POLICIES, UNSEEN_POLICIES]


def test_chunks_hold_every_episode_once():
    config = make_config(train_episodes=11)
    found = Counter(
        (each.policy, number) for each in chunks(config, "train") for number in range(each.first, each.stop)
    )
    assert found == Counter({(policy, number): 1 for policy in TRAIN_POLICIES for number in range(11)})
    assert sum(found.values()) == config.total("train") and config.files("train") == 17


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {"plate-slied": CROSS}}, "plate-slied is none of"),
        ({"tasks": {"plate-slide": CROSS | {"cross_c": "nothing"}}}, "nothing is none of"),
        ({"tasks": {"plate-slide": CROSS | {"cross_c": "faucet-close"}}}, "each another one"),
        ({"tasks": {"plate-slide": CROSS | {"cross_a": "plate-slide"}}}, "each another one"),
        ({"frames": 300}, "ends an episode after 500"),
        ({"image": "gif"}, "image"),
    ],
)
def test_what_cannot_be_collected_is_refused_with_its_place(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_config(**changes)
