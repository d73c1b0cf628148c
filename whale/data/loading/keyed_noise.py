"""Random numbers that depend on (seed, stream, global sample index) alone, whoever reads a sample and when.

Shapes: n samples, in any order.
"""

import hashlib
from functools import lru_cache

import numpy as np

from whale.data.loading.sampler import combine, mix, text_key


def keyed_uniform(seed: int, stream: str, indices: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """float32 [n, *shape] in [0, 1): row i is a pure function of seed, stream and indices[i].

    Philox with the sample index as the highest word of its counter; 24 bits of each raw word.
    """
    generator = np.random.Philox(key=_noise_key(seed, stream))
    state = generator.state  # setting it costs a tenth of a new generator for every sample
    raw = np.empty((len(indices), int(np.prod(shape))), np.uint64)
    for row, index in zip(raw, indices.tolist(), strict=True):
        state["state"]["counter"][3] = index
        generator.state = state
        row[:] = generator.random_raw(len(row))
    return ((raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)).reshape(len(indices), *shape)


def jitter_shifts(seed: int, indices: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """int64 shifts [n], uniform in [0, limit), keyed by (seed, global sample index)."""
    bits = combine(_jitter_key(seed), np.asarray(indices, np.uint64)) >> np.uint64(32)
    return ((bits * np.asarray(limit, np.uint64)) >> np.uint64(32)).astype(np.int64)


@lru_cache(maxsize=64)
def _noise_key(seed: int, stream: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:16], "<u8")


@lru_cache(maxsize=64)
def _jitter_key(seed: int) -> np.ndarray:
    return combine(mix(np.uint64(seed % 2**64)), text_key("jitter"))
