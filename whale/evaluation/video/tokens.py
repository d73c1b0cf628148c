"""How well the next tokens are predicted, beside baselines that need no network.

Three quarters of all tokens repeat the frame before, so accuracy is counted on CHANGED tokens only.
Shapes: S segments, T transitions, N tokens per frame, V codes. `mask` is bool [S, T]: transitions that count.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CopyUnigram:
    """p(next = v at position j) = copy_weight [v == current] + (1 - copy_weight) unigram[j, v]."""

    copy_weight: float
    unigram_NV: np.ndarray

    @property
    def most_frequent_N(self) -> np.ndarray:
        """The code seen most often at each position; ties go to the lowest code."""
        return self.unigram_NV.argmax(axis=1)

    def nll(self, tokens_STN: np.ndarray) -> np.ndarray:
        """Negative log-likelihood in nats of each next token. [S, T+1, N] -> float64 [S, T, N]."""
        is_copy, probability = _parts(tokens_STN, self.unigram_NV)
        return -np.log(self.copy_weight * is_copy + (1 - self.copy_weight) * probability)


def changed_tokens(tokens_STN: np.ndarray, mask_ST: np.ndarray) -> np.ndarray:
    """Next tokens that differ from the current one and count. [S, T+1, N], [S, T] -> bool [S, T, N]."""
    return (tokens_STN[:, 1:] != tokens_STN[:, :-1]) & mask_ST[:, :, None]


def accuracy(prediction_STN: np.ndarray, target_STN: np.ndarray, counted_STN: np.ndarray) -> float:
    """Share of counted tokens predicted exactly; NaN when none counts."""
    if not counted_STN.any():
        return float("nan")
    return float((prediction_STN == target_STN)[counted_STN].mean())


def fit_copy_unigram(
    tokens_STN: np.ndarray, mask_ST: np.ndarray, num_codes: int, smoothing: float = 0.01, iterations: int = 200
) -> CopyUnigram:
    """Fit the mixture on training tokens: counts + `smoothing` per position, then the copy weight by EM.

    The likelihood is concave in the one weight, so EM climbs to the optimum from anywhere inside (0, 1).
    """
    unigram_NV = fit_unigram(tokens_STN, mask_ST, num_codes, smoothing)
    is_copy, probability = _parts(tokens_STN, unigram_NV)
    is_copy, probability = is_copy[mask_ST].ravel(), probability[mask_ST].ravel()
    weight = 0.5
    for _ in range(iterations):
        copied = weight * is_copy
        updated = float((copied / (copied + (1 - weight) * probability)).mean())
        if abs(updated - weight) < 1e-9:
            break
        weight = updated
    return CopyUnigram(min(max(weight, 1e-6), 1 - 1e-6), unigram_NV)


def fit_unigram(tokens_STN: np.ndarray, mask_ST: np.ndarray, num_codes: int, smoothing: float) -> np.ndarray:
    """Smoothed frequency of every code at every position among the next tokens that count. -> float64 [N, V]."""
    target_MN = tokens_STN[:, 1:][mask_ST].astype(np.int64)
    num_positions = tokens_STN.shape[2]
    flat = (target_MN + np.arange(num_positions) * num_codes).ravel()
    counts_NV = np.bincount(flat, minlength=num_positions * num_codes).reshape(num_positions, num_codes) + smoothing
    return counts_NV / counts_NV.sum(axis=1, keepdims=True)


def code_counts(tokens: np.ndarray, num_codes: int) -> np.ndarray:
    """How often each code occurs in tokens of any shape. -> int64 [V]; counts of several sets add up."""
    return np.bincount(np.asarray(tokens).astype(np.int64).ravel(), minlength=num_codes)


def code_usage(counts_V: np.ndarray) -> tuple[int, float]:
    """(number of codes that occur, perplexity = exp of the entropy of their frequencies); some code must occur."""
    used = counts_V[counts_V > 0] / counts_V.sum()
    return len(used), float(np.exp(-(used * np.log(used)).sum()))


def _parts(tokens_STN: np.ndarray, unigram_NV: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each next token: is it a copy, and how probable is it under the unigram. Both float64 [S, T, N]."""
    current, target = tokens_STN[:, :-1], tokens_STN[:, 1:]
    return (target == current).astype(np.float64), unigram_NV[np.arange(tokens_STN.shape[2]), target]
