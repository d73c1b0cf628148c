"""An episode as the libraries of its format give it, without our readers; and which library that is.

`whale data prove` holds our readers, operations and shards against it. Nothing of whale/data/ingest or of the spec's
operations is used here: what two ways agree on is not the mistake of one. Our own readers, which have limits, see a
file first; these have none. Shapes: T steps, H W image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class PlainEpisode:
    """columns: numbers (T, ...) by name; texts: T byte strings by name; about: of the whole episode.

    pictures: name of a camera -> T uint8 (H, W, 3), channels as stored; None where the episode has none.
    """

    num_steps: int
    columns: Mapping[str, np.ndarray]
    texts: Mapping[str, Sequence[bytes]]
    about: Mapping[str, Any]
    pictures: Callable[[str], list[np.ndarray] | None]


class PlainReader(Protocol):
    """`how`: the library and its version; episodes are counted as the format's documentation counts them."""

    how: str

    def count(self, split: str) -> int: ...

    def read(self, split: str, ordinal: int) -> PlainEpisode: ...
