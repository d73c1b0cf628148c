"""Recorded beginnings from a dataset's shards; what a bundle takes along, and what a comparison can begin at."""

import numpy as np

from whale.common.errors import BadDataError
from whale.data.storage.shards import ShardSet
from whale.worlds.folder import WorldFolder
from whale.worlds.starts import Start

HELD_OUT = ("test", "val")  # in this order: beginnings that the model was not trained on


def held_out_split(shards: ShardSet) -> str:
    """BadDataError where everything was trained on."""
    for split in HELD_OUT:
        if split in shards.splits and len(shards.episodes(split)):
            return split
    raise BadDataError("no held-out episode to begin at", file=shards.directory, found=shards.splits,
                       expected=" or ".join(HELD_OUT))  # fmt: skip


def starts_beside(world: WorldFolder, count: int, seen: bool = False) -> dict[str, list[Start]]:
    """Held-out beginnings of every dataset of the model whose shards lie beside it; `seen`: as of `recorded_starts`."""
    models = world.dynamics.parent.parent
    role = models.parent.parent / "data/finetune" if models.name == "finetuned" else models.parent / "data/pretrain"
    found = {}
    for name in sorted(world.contracts):
        if (role / "shards" / name / "manifest.json").is_file():
            shards = ShardSet.open(role / "shards" / name)
            found[name] = recorded_starts(shards, held_out_split(shards), count, seen=seen)
    return found


def recorded_starts(
    shards: ShardSet, split: str, count: int, given: int = 1, length: int = 64, seen: bool = False
) -> list[Start]:
    """At most `count`, spread over the split: the first `given` frames and up to `length` actions, as far as valid.

    seen: with the frames that were recorded afterwards.
    """
    rows = shards.episodes(split)
    starts = []
    for number in np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)):
        row = rows[int(number)]
        arrays = shards.read_arrays(row, ("action", "action_valid"))
        valid = arrays["action_valid"][: row.num_steps - 1]
        usable = min(length, len(valid) if valid.all() else int(np.argmin(valid)))
        if usable >= given and row.num_steps > given:
            frames = shards.read_frames(row, 0, usable + 1 if seen else given)
            actions = arrays["action"][:usable].astype(np.float32)
            starts.append(Start(row.key, row.language, frames[:given], actions, frames[given:] if seen else None))
    if not starts:
        raise BadDataError("no episode to begin at", file=shards.directory, place=f"split {split}",
                           expected=f"episodes of more than {given} frames with valid actions")  # fmt: skip
    return starts
