"""Which episodes a fraction of the training data holds: a keyed choice, nested, and the same wherever it is made.

The episodes of a dataset stand in the order of sha256(seed | dataset | key); a fraction f holds the first ceil(f n) of
n. So a smaller fraction is contained in a larger one, every dataset keeps the same share of its episodes, and a choice
depends on no other dataset, no worker and no library's random numbers. The seed is that of the sampling plan: entries
of train_dynamics that have seeds of their own still learn from the same episodes.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class DataFraction:
    """`fraction` in (0, 1) of the episodes of each dataset, chosen by `seed`."""

    fraction: float
    seed: int

    def places(self, dataset: str, keys: Sequence[str]) -> list[int]:
        """Where in `keys`, the episodes that have a segment, the chosen ones stand: ascending, at least one of any."""
        count = math.ceil(round(self.fraction * len(keys), 9))  # 0.1 * 30 is 3.0000000000000004
        ranked = sorted(range(len(keys)), key=lambda place: self._rank(dataset, keys[place]))
        return sorted(ranked[:count])

    def facts(self, num_chosen: int, num_episodes: int) -> dict[str, int | float]:
        """For a receipt: of how many episodes how many were there to draw from."""
        return {"data_fraction": self.fraction, "episodes": num_chosen, "episodes_of": num_episodes}

    def provenance(self, of: str) -> str:
        """What a plan says of its data, which said `of` before."""
        return f"{of}; data_fraction {self.fraction:g} of the episodes, by seed {self.seed}"

    def _rank(self, dataset: str, key: str) -> bytes:
        return hashlib.sha256(f"{self.seed}|{dataset}|{key}".encode()).digest()
