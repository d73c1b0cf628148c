import numpy as np
import pytest

from whale.common.errors import ConfigError
from whale.evaluation.measuring.rollouts.heldout import read_windows
from whale.evaluation.measuring.rollouts.imagination import predictor
from whale.evaluation.uncertainty.estimation.decoding import Decoding, row_seeds

SAMPLED = Decoding(mode="sample", temperature=1.0, samples=2)


@pytest.fixture(scope="module")
def windows(dataset):
    return read_windows(dataset, "train", 6, 6, 2)


def imagined(stack, dataset, windows, rows, batch_size, decoding=SAMPLED, seed=0):
    keys = [windows.keys[row] for row in rows]
    predict = predictor(stack.world("full", dataset), batch_size, **decoding.how(keys, seed))
    return predict(windows.frames[rows, :1], windows.actions[rows], 5)


def test_a_window_draws_the_same_in_any_batch_and_any_company(stack, dataset, windows):
    every = np.arange(len(windows))
    together = imagined(stack, dataset, windows, every, 64)
    assert (imagined(stack, dataset, windows, every, 2) == together).mean() > 0.999  # float sums of other batches
    assert (imagined(stack, dataset, windows, every[::-2], 64) == together[::-2]).mean() > 0.999


def test_another_seed_or_copy_draws_otherwise_and_argmax_does_not_draw(stack, dataset, windows):
    rows = np.arange(len(windows))
    drawn = imagined(stack, dataset, windows, rows, 64)
    assert (imagined(stack, dataset, windows, rows, 64, seed=1) != drawn).any()
    again = windows.repeated(2)
    assert again.keys[:2] == [windows.keys[0], f"{windows.keys[0]}#1"] and len(again) == 2 * len(windows)
    np.testing.assert_array_equal(again.frames[::2], again.frames[1::2])
    copies = imagined(stack, dataset, again, np.arange(len(again)), 64)
    assert (copies[::2] != copies[1::2]).any() and (copies[::2] == drawn).mean() > 0.999
    cold = [imagined(stack, dataset, windows, rows, 64, SAMPLED.by("argmax"), seed) for seed in (0, 1)]
    np.testing.assert_array_equal(*cold)


def test_a_seed_is_a_function_of_its_window_alone():
    assert row_seeds(["a+0", "b+3"], 0) == [row_seeds(["a+0"], 0)[0], row_seeds(["b+3"], 0)[0]]
    assert row_seeds(["a+0"], 0) == [4612505448]


def test_seeds_of_other_rows_are_refused(stack, dataset, windows):
    from whale.models.world.rollout import rollout

    world = stack.world("full", dataset)
    placed = world.tokenizer.placed
    with pytest.raises(ConfigError, match=r"3 seeds"):
        rollout(world, placed(windows.frames[:2, :1]), placed(windows.actions[:2]), 5, temperature=1.0, seed=[1, 2, 3])


def test_what_is_drawn_stands_in_the_protocol_and_argmax_has_one_outcome():
    assert SAMPLED.settings() == {"decoding": "sample", "temperature": 1.0, "samples": 2}
    assert SAMPLED.by("argmax").settings() == {"decoding": "argmax"}
    assert (SAMPLED.draws, SAMPLED.by("argmax").draws) == (2, 1)
