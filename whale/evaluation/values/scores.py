"""How well predicted values tell sequences apart: value gap, correlations, regret@k (P 6.1.2), and what guessing gives.

Shapes: B sequences of one task, R resamples.
"""

from math import comb

import numpy as np

from whale.evaluation.uncertainty.correlation import pearson, spearman


def replicates(
    true_B: np.ndarray, found_B: np.ndarray, k: int, rng: np.random.Generator, resamples: int
) -> dict[str, np.ndarray]:
    """{metric: [1 + R]}: its value, then that of each resample of sequences; one set of resamples for all metrics.

    value_gap: mean absolute difference; pearson (the paper's formula), spearman (its words: ordinal rankings); regret.
    """
    number = len(true_B)
    draws = np.sort(rng.integers(0, number, (resamples, number)), axis=1)  # ties are won by the lowest index, as ever
    draws = np.concatenate([np.arange(number)[None], draws])
    weights_RB = np.stack([np.bincount(draw, minlength=number) for draw in draws]).astype(np.float64)
    pair = true_B[:, None], found_B[:, None]
    return {
        "value_gap": np.abs(true_B - found_B)[draws].mean(axis=1),
        "pearson": pearson(*pair, weights_RB),
        "spearman": spearman(*pair, weights_RB),
        f"regret_at_{k}": np.array([regret(true_B[draw], found_B[draw], k) for draw in draws]),
    }


def within_policies(true_B: np.ndarray, found_B: np.ndarray, policy: list[str]) -> float:
    """Spearman among the sequences of one policy, mean over those whose values vary; NaN without any."""
    names = np.array(policy)
    each = [_spearman(true_B[names == name], found_B[names == name]) for name in sorted(set(policy))]
    finite = [value for value in each if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def regret(true_B: np.ndarray, found_B: np.ndarray, k: int) -> float:
    """Best true value less the best true value among the k sequences that are predicted best; ties: lowest index."""
    chosen = np.argsort(-found_B, kind="stable")[:k]
    return float(true_B.max() - true_B[chosen].max())


def guesses(true_B: np.ndarray, k: int) -> dict[str, float]:
    """What no model is needed for: the gap of the best constant, and the expected regret of k random sequences."""
    ordered, number, k = np.sort(true_B), len(true_B), min(k, len(true_B))
    share = np.array([comb(rank, k - 1) / comb(number, k) for rank in range(number)])  # P(it is the best of the k)
    return {
        "value_gap": float(np.abs(true_B - np.median(true_B)).mean()),
        f"regret_at_{k}": float(ordered[-1] - (ordered * share).sum()),
    }


def _spearman(true_B: np.ndarray, found_B: np.ndarray) -> float:
    if len(true_B) < 3:
        return float("nan")
    return float(spearman(true_B[:, None], found_B[:, None], np.ones((1, len(true_B))))[0])
