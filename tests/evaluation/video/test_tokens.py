import numpy as np

from whale.evaluation.video.tokens import (
    CopyUnigram,
    accuracy,
    changed_tokens,
    code_counts,
    code_usage,
    fit_copy_unigram,
    fit_unigram,
)


def _sticky_tokens(copy: float, num_codes: int, segments: int, seed: int = 0) -> np.ndarray:
    """[S, 9, 4]: each token repeats with probability `copy`, else is drawn uniformly."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(num_codes, size=(segments, 9, 4))
    for step in range(1, 9):
        stays = rng.random((segments, 4)) < copy
        tokens[:, step] = np.where(stays, tokens[:, step - 1], tokens[:, step])
    return tokens


def test_the_fit_recovers_the_copy_weight_that_made_the_tokens():
    tokens = _sticky_tokens(0.7, 8, 1500)
    fitted = fit_copy_unigram(tokens, np.ones((1500, 8), bool), 8)
    np.testing.assert_allclose(fitted.copy_weight, 0.7, atol=0.01)
    np.testing.assert_allclose(fitted.unigram_NV, 1 / 8, atol=0.02)


def test_the_fitted_weight_maximises_the_likelihood():
    tokens, mask = _sticky_tokens(0.5, 8, 100), np.ones((100, 8), bool)
    fitted = fit_copy_unigram(tokens, mask, 8)
    best = fitted.nll(tokens).mean()
    for weight in (fitted.copy_weight - 0.02, fitted.copy_weight + 0.02):
        assert best < CopyUnigram(weight, fitted.unigram_NV).nll(tokens).mean()


def test_nll_of_the_mixture_is_its_closed_form():
    mixture = CopyUnigram(0.5, np.array([[0.25, 0.75]]))
    tokens = np.array([[[0], [0], [1]]])
    np.testing.assert_allclose(mixture.nll(tokens)[0, :, 0], [-np.log(0.625), -np.log(0.375)])


def test_the_unigram_counts_next_tokens_of_counted_transitions_only():
    tokens = np.array([[[0], [1], [1]], [[1], [0], [0]]])
    mask = np.array([[True, True], [True, False]])
    np.testing.assert_allclose(fit_unigram(tokens, mask, 2, smoothing=1.0), [[2 / 5, 3 / 5]])


def test_copying_scores_zero_on_changed_tokens():
    tokens, mask = _sticky_tokens(0.7, 8, 20), np.ones((20, 8), bool)
    changed = changed_tokens(tokens, mask)
    assert accuracy(tokens[:, :-1], tokens[:, 1:], changed) == 0.0
    assert accuracy(tokens[:, 1:], tokens[:, 1:], changed) == 1.0


def test_padded_transitions_never_count_as_changed():
    tokens, mask = _sticky_tokens(0.0, 8, 4), np.zeros((4, 8), bool)
    assert not changed_tokens(tokens, mask).any()
    assert np.isnan(accuracy(tokens[:, 1:], tokens[:, 1:], changed_tokens(tokens, mask)))


def test_perplexity_of_uniform_usage_is_the_number_of_codes():
    used, perplexity = code_usage(code_counts(np.arange(6).repeat(3), num_codes=16))
    assert used == 6
    np.testing.assert_allclose(perplexity, 6)


def test_counts_of_two_sets_add_up_to_the_usage_of_their_union():
    left, right = np.array([[0, 1], [1, 1]], np.uint16), np.array([2, 3], np.uint16)
    together = code_counts(left, 8) + code_counts(right, 8)
    assert code_usage(together)[0] == 4
    assert code_usage(together) == code_usage(code_counts(np.concatenate([left.ravel(), right]), 8))
