import numpy as np
import pytest

from whale.common.errors import BadDataError, MissingInputError
from whale.data.segments.grid import spread
from whale.evaluation.measuring.rollouts.heldout import open_datasets, read_segments, read_windows


def test_every_transition_of_an_episode_occurs_exactly_once(dataset):
    segments = read_segments(dataset, "train", max_episodes=99)
    lengths = [row.num_steps for row in dataset.shards.episodes("train")]
    counted = [int(segments.valid[segments.episode == number].sum()) for number in range(len(lengths))]
    assert counted == [length - 1 for length in lengths]


def test_the_tokens_of_a_segment_are_those_of_its_frames(dataset, stack):
    import torch

    segments = read_segments(dataset, "train", max_episodes=2)
    with torch.inference_mode():
        tokens = stack.tokenizer.encode(torch.from_numpy(segments.frames).float() / 255)
    np.testing.assert_array_equal(tokens.numpy(), segments.tokens)


def test_windows_hold_consecutive_frames_and_the_raw_actions_between_them(dataset):
    windows = read_windows(dataset, "train", length=7, max_episodes=99, per_episode=2)
    key, start = windows.keys[-1].split("+")
    row = next(row for row in dataset.shards.episodes("train") if row.key == key)
    np.testing.assert_array_equal(windows.frames[-1], dataset.shards.read_frames(row, int(start), int(start) + 7))
    action = dataset.shards.read_arrays(row)["action"]
    np.testing.assert_array_equal(windows.actions[-1], action[int(start) : int(start) + 6])


def test_episodes_shorter_than_a_window_are_left_out(dataset):
    windows = read_windows(dataset, "train", length=13, max_episodes=99, per_episode=1)
    assert len(windows) == 3


def test_a_split_without_a_long_enough_episode_is_an_error_that_names_it(dataset):
    with pytest.raises(BadDataError, match="split train"):
        read_windows(dataset, "train", length=99, max_episodes=9, per_episode=1)


def test_a_folder_without_datasets_is_an_error(tmp_path):
    with pytest.raises(MissingInputError, match="no dataset"):
        open_datasets(tmp_path)


def test_spread_takes_both_ends_and_never_repeats():
    assert spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([], 5) == []


def keyed(dataset, per_episode, seed=0):
    return read_windows(dataset, "train", 6, 99, per_episode, "keyed", seed)


def test_keyed_starts_are_the_same_again_and_others_for_another_seed(dataset):
    keys = [keyed(dataset, 2, seed).keys for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


def test_keyed_starts_are_not_all_at_the_first_frame_and_cover_every_place(dataset):
    starts = [int(key.split("+")[1]) for seed in range(40) for key in keyed(dataset, 1, seed).keys]
    lengths = [row.num_steps for row in dataset.shards.episodes("train") if row.num_steps >= 6]
    assert set(starts) == set(range(max(lengths) - 5))
    assert starts.count(0) < len(starts) / 2


def test_no_keyed_window_comes_twice_and_fewer_windows_are_among_more(dataset):
    one, three, every = (keyed(dataset, count) for count in (1, 3, 99))
    assert len(set(every.keys)) == len(every) and set(one.keys) < set(three.keys) < set(every.keys)
    lengths = [row.num_steps for row in dataset.shards.episodes("train")]
    assert len(every) == sum(max(length - 5, 0) for length in lengths)


def test_an_episode_keeps_its_starts_whatever_others_are_read(dataset):
    assert set(read_windows(dataset, "train", 6, 2, 1, "keyed").keys) < set(keyed(dataset, 1).keys)


def test_given_frames_lie_before_what_is_scored(dataset):
    whole = read_windows(dataset, "train", 7, 99, 2)
    behind = whole.behind(3)
    np.testing.assert_array_equal(behind.given, whole.frames[:, :3])
    np.testing.assert_array_equal(behind.frames, whole.frames[:, 2:])
    np.testing.assert_array_equal(behind.with_earlier(behind.actions), whole.actions)
    some = behind.repeated(2).take(slice(1, 4))
    np.testing.assert_array_equal(some.given, whole.frames[[0, 1, 1], :3])
    assert some.keys == [whole.keys[0] + "#1", whole.keys[1], whole.keys[1] + "#1"]
