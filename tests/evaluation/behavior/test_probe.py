"""Closed forms of the probe, and folds that no episode spans."""

import numpy as np
import pytest

from whale.evaluation.behavior.probe import Question, answer
from whale.evaluation.numbers.bootstrap import mean_interval

EPISODES, EACH = 60, 4
EPISODE = np.repeat(np.arange(EPISODES), EACH)
POLICY = np.array(["a", "b", "c"])[EPISODE % 3]
TASK = np.array(["push", "pull"])[EPISODE // 3 % 2]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def one_hot(labels: np.ndarray) -> np.ndarray:
    return (labels[:, None] == np.unique(labels)).astype(np.float64)


def accuracy(features: np.ndarray, question: Question, folds: int = 5) -> np.ndarray:
    return answer(features, question, question.folds(folds, rng()), 0.1).correct


@pytest.mark.parametrize("group", [None, TASK])
def test_what_encodes_the_class_is_read_without_an_error(group):
    question = Question.of(POLICY, group, EPISODE)
    assert question.kept.all() and accuracy(one_hot(POLICY), question).mean() == 1.0
    assert question.chance() == pytest.approx(1 / 3)


def test_noise_gives_chance_within_the_interval():
    question = Question.of(POLICY, None, EPISODE)
    correct = accuracy(rng().normal(size=(len(POLICY), 20)), question)
    found = mean_interval(correct, EPISODE, rng(), 500)
    assert found.low < question.chance() < found.high


def test_an_episode_lies_in_one_fold_and_every_fold_has_every_class():
    question = Question.of(POLICY, None, EPISODE)
    fold = question.folds(5, rng())
    assert all(len(np.unique(fold[episode == EPISODE])) == 1 for episode in range(EPISODES))
    assert all(set(POLICY[fold == number]) == {"a", "b", "c"} for number in range(5))


def test_what_names_the_episode_alone_helps_nobody_since_no_fold_has_seen_it():
    """Folds that cut through episodes would read the class off the neighbours: accuracy 1."""
    names_the_episode = one_hot(EPISODE)
    question = Question.of(POLICY, None, EPISODE)
    leaking = np.tile(np.arange(EACH), EPISODES)
    assert answer(names_the_episode, question, leaking, 10.0).correct.mean() == 1.0
    assert accuracy(names_the_episode, question).mean() < 0.5


def test_shuffled_labels_are_those_of_whole_episodes_and_no_longer_readable():
    question = Question.of(POLICY, TASK, EPISODE)
    other = question.shuffled(rng())
    assert all(len(set(other.labels[episode == EPISODE])) == 1 for episode in range(EPISODES))
    for name in question.groups:
        inside = name == TASK
        np.testing.assert_array_equal(np.sort(other.labels[inside]), np.sort(question.labels[inside]))
    assert accuracy(one_hot(POLICY), other).mean() < 0.6


def test_a_policy_that_acts_in_one_task_alone_is_told_by_the_task_but_not_within_one():
    policy = np.where(TASK == "push", "a", "b")
    overall, within = Question.of(policy, None, EPISODE), Question.of(policy, TASK, EPISODE)
    assert accuracy(one_hot(TASK), overall).mean() == 1.0
    assert not within.kept.any() and within.groups == []


def test_a_class_of_one_episode_is_left_out_and_so_is_a_group_of_one_class():
    policy = POLICY.copy()
    policy[EPISODE == 0] = "lonely"
    question = Question.of(policy, None, EPISODE)
    assert not question.kept[EPISODE == 0].any() and question.kept[EPISODE > 0].all()
    group = np.where(POLICY == "a", "left", "right")
    assert Question.of(POLICY, group, EPISODE).groups == ["right"]


def test_chance_is_the_share_of_the_largest_class_of_each_group():
    episode = np.arange(10)
    labels = np.array(list("aaabb") + list("cccdd"))
    assert Question.of(labels, None, episode).chance() == pytest.approx(0.3)
    assert Question.of(labels, np.repeat(["x", "y"], 5), episode).chance() == pytest.approx(0.6)
    assert Question.of(labels, np.repeat(["x", "y"], 5), episode).chance("x") == pytest.approx(0.6)


def test_the_same_question_gets_the_same_answer():
    features = rng().normal(size=(len(POLICY), 8)) + 0.5 * one_hot(POLICY) @ rng(1).normal(size=(3, 8))
    question = Question.of(POLICY, TASK, EPISODE)
    first, again = (accuracy(features, question) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert 0.4 < first.mean() < 1
