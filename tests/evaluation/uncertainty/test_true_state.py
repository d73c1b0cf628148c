import numpy as np

from whale.evaluation.measuring.motion import position_error
from whale.evaluation.uncertainty.true_state import fit_position_probe


def test_the_probe_recovers_a_linear_map_from_more_features_than_frames():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 3))
    hidden = rng.normal(size=(300, 3))
    mixing = rng.normal(size=(3, 400))
    features = hidden @ mixing + 0.01 * rng.normal(size=(300, 400))
    probe = fit_position_probe(features[:200], hidden[:200] @ weights + 1.0)
    error = position_error(probe(features[200:]), hidden[200:] @ weights + 1.0)
    assert error.mean() < 0.02


def test_without_a_relation_the_probe_says_the_mean():
    rng = np.random.default_rng(0)
    position = rng.normal(size=(200, 3))
    probe = fit_position_probe(rng.normal(size=(200, 500)), position)
    np.testing.assert_allclose(probe(rng.normal(size=(50, 500))).std(), 0, atol=0.35)


def test_the_error_is_a_length_in_metres():
    np.testing.assert_allclose(position_error(np.array([[3.0, 4.0, 0.0]]), np.zeros((1, 3))), 5.0)
