import numpy as np
import pytest

from whale.common.errors import BadDataError
from whale.data.ingest.statistics import action_statistics

MASK = [True] * 6 + [False]


def values(count=1000, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 7)).astype(np.float32)


def test_a_large_offset_does_not_cancel_the_deviation():
    x = (1000.0 + 0.01 * values()).astype(np.float32)
    statistics = action_statistics([x[:300], x[300:]], MASK, 2)["action"]
    np.testing.assert_allclose(statistics["std"], x.astype(np.float64).std(axis=0), rtol=1e-9)


def test_they_do_not_depend_on_how_the_steps_are_cut_into_files():
    x = values()
    whole = action_statistics([x], MASK, 5)
    assert action_statistics([x[:10], x[10:500], x[500:]], MASK, 5) == whole
    assert action_statistics([x[i : i + 7] for i in range(0, len(x), 7)], MASK, 5) == whole


def test_every_number_agrees_with_numpy():
    x = values()
    x[:250, 3] = 0.0
    found = action_statistics([x], MASK, 5)
    reference = x.astype(np.float64)
    np.testing.assert_allclose(found["action"]["mean"], reference.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found["action"]["std"], reference.std(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found["action"]["q99"], np.quantile(reference, 0.99, axis=0))
    np.testing.assert_array_equal(found["action"]["min"], reference.min(axis=0))
    assert found["action"]["zero_share"][3] == 0.25
    assert (found["num_transitions"], found["num_trajectories"], found["action"]["mask"]) == (1000, 5, MASK)


def test_nothing_to_count_is_an_error_not_a_nan():
    with pytest.raises(BadDataError, match="no valid train step"):
        action_statistics([np.zeros((0, 7), np.float32)], MASK, 0)
