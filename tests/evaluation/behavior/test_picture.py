"""t-SNE: the same bytes whatever number of threads is asked for, and clouds that stay apart."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from whale.common.errors import ConfigError
from whale.evaluation.behavior.picture import tsne

LABELS = np.repeat(np.arange(3), 20)
FEATURES = np.random.default_rng(0).normal(size=(60, 8)) + 10 * np.eye(3, 8)[LABELS]


def test_the_same_seed_gives_the_same_bytes_also_where_others_use_several_threads():
    first = tsne(FEATURES, 8, 0)
    assert first.shape == (60, 2) and first.dtype == np.float32
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            assert tsne(FEATURES, 8, 0).tobytes() == first.tobytes()


def test_clouds_that_lie_apart_stay_apart():
    places = tsne(FEATURES, 8, 0)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.diag(np.full(60, np.inf))
    assert (LABELS[distance.argmin(axis=1)] == LABELS).all()


def test_too_few_segments_for_the_perplexity_are_refused():
    with pytest.raises(ConfigError, match="less than a third of 60"):
        tsne(FEATURES, 20, 0)
