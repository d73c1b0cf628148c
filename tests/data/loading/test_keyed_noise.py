import hashlib

import numpy as np

from whale.data.loading.keyed_noise import jitter_shifts, keyed_uniform


def test_jitter_reaches_every_frame_that_has_a_successor_and_is_keyed_by_the_sample():
    limit = np.full(2000, 4)
    shifts = jitter_shifts(0, np.arange(2000), limit)
    assert np.bincount(shifts).min() > 400 and shifts.max() == 3
    assert (jitter_shifts(0, np.arange(100, 200), limit[:100]) == shifts[100:200]).all()
    assert not (jitter_shifts(1, np.arange(2000), limit) == shifts).all()


def test_noise_is_a_pure_function_of_seed_stream_and_index():
    indices = np.array([10**12, 3, 10**12 + 1])
    first = keyed_uniform(0, "z", indices, (4, 16))
    assert first.shape == (3, 4, 16) and first.dtype == np.float32 and first.min() >= 0 and first.max() < 1
    for place in range(3):  # whatever was drawn before
        np.testing.assert_array_equal(first[[place]], keyed_uniform(0, "z", indices[[place]], (4, 16)))
    others = [keyed_uniform(1, "z", indices, (4, 16)), keyed_uniform(0, "y", indices, (4, 16)), first[1:]]
    assert all(not np.isin(other, first[0]).any() for other in others)
    assert abs(keyed_uniform(0, "z", indices[:1], (100_000,)).mean() - 0.5) < 0.005


def test_noise_is_philox_with_the_sample_index_as_the_highest_word_of_the_counter():
    """So a resumed run and a rederived one see the noise of the first."""
    key = np.frombuffer(hashlib.sha256(b"5/z").digest()[:16], "<u8")
    words = np.random.Philox(key=key, counter=[0, 0, 0, 7]).random_raw(3) >> np.uint64(40)
    found = keyed_uniform(5, "z", np.array([7]), (3,))
    np.testing.assert_array_equal(found[0], words.astype(np.float32) * np.float32(2.0**-24))
