"""From held-out episodes to values per task."""

import numpy as np
import pytest
import torch
from tiny_shards import write_tiny_shards

from whale.common.errors import BadDataError
from whale.data.segments.actions import ActionNormalizer
from whale.data.storage.shards import ShardSet
from whale.evaluation.measuring.rollouts.heldout import Dataset
from whale.evaluation.values.measurement import (
    MEASURED,
    TOO_WEAK,
    EvaluateValuesConfig,
    TaskScores,
    all_frames,
    predicted_rewards,
    values_protocol,
)
from whale.evaluation.values.sequences import read_sequences
from whale.reward.reward import RewardHead, RewardHeadConfig

CONFIG = EvaluateValuesConfig(
    seed=0, pretrain_splits=["train"], models=["full"], horizons=[2, 5], sequences=3, best_of=2, resamples=100,
    batch_size=2,
)  # fmt: skip
ABOUT = [{"task": task, "policy": policy} for task in ("open", "close") for policy in ("expert", "random", "random")]


@pytest.fixture(scope="module")
def valued(dataset, tmp_path_factory) -> Dataset:
    """Six episodes of two tasks that earn rewards; the last one is too short."""
    folder = tmp_path_factory.mktemp("valued") / "blocks"
    shards = ShardSet.open(write_tiny_shards(folder, "blocks", [9, 6, 8, 7, 9, 5], about=ABOUT))
    return Dataset("blocks", shards, dataset.tokens, dataset.z, ActionNormalizer.from_statistics(shards.statistics))


@pytest.fixture(scope="module")
def sequences(valued):
    return {each.task: each for each in read_sequences(valued, "train", 5, 3)}


def test_sequences_are_told_apart_by_task_and_know_policy_and_rewards(sequences):
    assert list(sequences) == ["close", "open"]
    assert sequences["open"].policy == ["expert", "random", "random"] and len(sequences["close"]) == 2
    np.testing.assert_array_equal(sequences["open"].rewards[1], 100 + np.arange(5))
    assert sequences["open"].frames.shape[:2] == (3, 6) and sequences["open"].actions.shape == (3, 5, 7)


def test_at_most_so_many_of_a_task_and_none_that_is_too_short(valued):
    assert [len(each) for each in read_sequences(valued, "train", 5, 2)] == [2, 2]
    with pytest.raises(BadDataError, match="nothing to value"):
        list(read_sequences(valued, "train", 30, 2))


def test_every_variant_starts_at_the_recorded_frame_and_the_frozen_one_stays_there(stack, valued, sequences):
    found = all_frames(stack, valued, sequences["open"], CONFIG)
    assert set(found) == {"recorded", "reconstructed", "first_frame", "full"}
    for name in ("recorded", "first_frame", "full"):
        np.testing.assert_array_equal(found[name][:, 0], sequences["open"].frames[:, 0])
    assert (found["first_frame"] == found["first_frame"][:, :1]).all()
    assert {frames.shape for frames in found.values()} == {sequences["open"].frames.shape}


def test_rewards_of_a_sequence_do_not_depend_on_the_batch_around_it(stack, valued, sequences):
    torch.manual_seed(0)
    about = {"instructions": [""], "bounds": [-9.0, 9.0], "encoder": "0" * 64}
    head = RewardHead(RewardHeadConfig(feature_size=16 * 8, action_size=7, hidden=8, **about)).eval()
    some = sequences["open"]
    at_once = predicted_rewards(stack, head, valued, some.frames, some, 3)
    one_by_one = predicted_rewards(stack, head, valued, some.frames, some, 1)
    np.testing.assert_allclose(at_once, one_by_one, atol=1e-5)
    assert at_once.shape == (3, 5)


def test_whatever_frames_are_shown_the_recorded_beginning_is_what_progress_is_counted_from(stack, valued, sequences):
    torch.manual_seed(0)
    about = {"instructions": [""], "bounds": [-9.0, 9.0], "encoder": "0" * 64}
    head = RewardHead(RewardHeadConfig(feature_size=16 * 8, action_size=7, hidden=8, **about)).eval()
    some = sequences["open"]
    other = some.frames.copy()
    other[:, 0] = 255 - other[:, 0]  # only what was there before the first action differs
    found = [predicted_rewards(stack, head, valued, frames, some, 3) for frames in (some.frames, other)]
    assert not np.array_equal(found[0][:, 0], found[1][:, 0])
    np.testing.assert_array_equal(found[0][:, 1:], found[1][:, 1:])


def test_the_truth_scores_perfectly_and_a_model_that_explains_nothing_is_called_too_weak(sequences):
    some = sequences["open"]
    of_task = TaskScores.of(some, {"recorded": some.rewards, "full": -some.rewards}, CONFIG)
    found = of_task.metrics(CONFIG)
    assert found["recorded.h5.value_gap"] == 0 and found["recorded.h2.spearman"] == pytest.approx(1.0)
    assert found["recorded.h5.regret_at_2"] == 0 and found["recorded.h5.r2"] == 1.0
    assert found["full.h5.spearman"] == pytest.approx(-1.0) and found["full.status"] == TOO_WEAK
    true = some.rewards.sum(axis=1)
    assert found["guess.h5.value_gap"] == pytest.approx(np.abs(true - np.median(true)).mean())
    assert {"full.h5.value_gap.low", "full.h5.regret_at_2.high", "full.h2.pearson.low"} <= set(found)


def test_the_mean_over_tasks_is_plain_and_its_interval_narrower_than_that_of_one(sequences):
    tasks = [TaskScores.of(each, {"full": 0.5 * each.rewards}, CONFIG) for each in sequences.values()]
    together, one, other = (each.metrics(CONFIG) for each in (TaskScores.mean(tasks), *tasks))
    name = "full.h5.value_gap"
    assert together[name] == pytest.approx((one[name] + other[name]) / 2)
    assert together["guess.h5.value_gap"] == pytest.approx(
        (one["guess.h5.value_gap"] + other["guess.h5.value_gap"]) / 2
    )
    widths = [each[f"{name}.high"] - each[f"{name}.low"] for each in (together, one, other)]
    assert 0 < widths[0] < max(widths[1:])
    assert together["full.status"] in (MEASURED, TOO_WEAK)


def test_the_protocol_names_horizons_reward_unit_and_head(stack, valued):
    text = values_protocol(stack, valued, "test", "full", "0123", CONFIG)
    assert "horizons=2,5" in text and "reward_unit=" in text and "reward_head=0123" in text
    assert text.endswith(f"model={stack.digests['full']}")
