"""Action sequences whose value is known: held-out episodes from their first frame on, with what they earned."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from whale.common.errors import BadDataError
from whale.data.segments.grid import spread
from whale.evaluation.measuring.rollouts.heldout import Dataset

ALL = "all"  # the task of a dataset that names none


@dataclass(frozen=True)
class Sequences:
    """B sequences of H actions of one task. `actions` in RAW units; frames uint8 [B, H + 1, R, R, 3]."""

    task: str
    frames: np.ndarray
    actions: np.ndarray  # float32 [B, H, 7]
    rewards: np.ndarray  # float32 [B, H]: what each action earned
    policy: list[str]
    success: list[bool]
    keys: list[str]
    instructions: list[str]

    def __len__(self) -> int:
        return len(self.frames)


def read_sequences(dataset: Dataset, split: str, horizon: int, most: int) -> Iterator[Sequences]:
    """One Sequences per task, of at most `most` episodes each, spread evenly over its policies.

    BadDataError for a split without an episode that is long enough and has only valid actions.
    """
    rows: dict[str, list] = {}
    for row in dataset.shards.episodes(split):
        if row.num_steps > horizon:
            rows.setdefault(str(row.metadata.get("task", ALL)), []).append(row)
    found = (_read(dataset, task, spread(rows[task], most), horizon) for task in sorted(rows))
    whole = [sequences for sequences in found if sequences is not None]
    if not whole:
        raise BadDataError(
            "a split has nothing to value", file=dataset.shards.directory, place=f"split {split}",
            expected=f"episodes of more than {horizon} frames with valid actions", remedy="choose shorter horizons",
        )  # fmt: skip
    yield from whole


def _read(dataset: Dataset, task: str, rows: list, horizon: int) -> Sequences | None:
    kept = []
    for row in rows:
        arrays = dataset.shards.read_arrays(row)
        if arrays["action_valid"][:horizon].all():
            kept.append((row, arrays))
    if not kept:
        return None
    return Sequences(
        task=task,
        frames=np.stack([dataset.shards.read_frames(row, 0, horizon + 1) for row, _ in kept]),
        actions=np.stack([arrays["action"][:horizon] for _, arrays in kept]).astype(np.float32),
        rewards=np.stack([arrays["reward"][:horizon] for _, arrays in kept]).astype(np.float32),
        policy=[str(row.metadata.get("policy", "")) for row, _ in kept],
        success=[bool(row.metadata.get("success", False)) for row, _ in kept],
        keys=[row.key for row, _ in kept],
        instructions=[row.language for row, _ in kept],
    )
