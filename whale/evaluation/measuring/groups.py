"""Windows by what their episodes say of themselves: task and policy, where the recordings name them.

A mean over tasks hides the one that fails. Shapes: B windows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from whale.evaluation.measuring.heldout import Windows

KINDS = ("task", "policy")
MOST = 24  # more names are instructions somebody typed, not groups
NAME = re.compile("[A-Za-z0-9_-]{1,64}")  # it becomes part of a metric's name


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
    """Each task, then each policy; none of a kind that has one name only, more than MOST, or names that are prose."""
    for kind, labels in zip(KINDS, (windows.task, windows.policy), strict=True):
        names = [] if labels is None else sorted(set(labels.tolist()))
        if 2 <= len(names) <= MOST and all(NAME.fullmatch(name) for name in names):
            for name in names:
                yield Group(kind, name, np.flatnonzero(labels == name))
