"""Windows by what their episodes say of themselves: task and policy, where the recordings name them.

A mean over tasks hides the one that fails. Shapes: B windows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from whale.evaluation.measuring.rollouts.heldout import Windows

KINDS = ("task", "policy")
MOST = 24  # more names are instructions somebody typed, not groups
FEWEST = 3  # episodes; of fewer, resampling says nothing
NAME = re.compile("(?!mean$)[A-Za-z0-9_-]{1,64}")  # it becomes part of a metric's name, and `mean` is one already


@dataclass(frozen=True)
class Group:
    """`kind`: task or policy; `rows` int64: its windows."""

    kind: str
    name: str
    rows: np.ndarray

    @property
    def prefix(self) -> str:
        """Of its metrics."""
        return f"{self.kind}.{self.name}"


def groups(windows: Windows) -> Iterator[Group]:
    """Each task, then each policy; none of a kind that has one name only, more than MOST, names that are prose, or one
    with fewer than FEWEST episodes: a mean over the others would be taken for that of all.
    """
    for kind, labels in zip(KINDS, (windows.task, windows.policy), strict=True):
        names = [] if labels is None else sorted(set(labels.tolist()))
        rows = {name: np.flatnonzero(labels == name) for name in names}
        is_short = any(len(np.unique(windows.episode[chosen])) < FEWEST for chosen in rows.values())
        if 2 <= len(names) <= MOST and all(map(NAME.fullmatch, names)) and not is_short:
            yield from (Group(kind, name, chosen) for name, chosen in rows.items())
