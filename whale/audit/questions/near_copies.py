"""Which held-out episodes look like one that was trained on, although no byte of them is equal (`leakage --near`).

Frames are read from the shards, which must lie where their ingest put them, as it signed them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whale.audit.facts import Dataset
from whale.audit.questions.film_hash import CODE_BYTES, NEAR, distances, film_code, frame_numbers
from whale.common.errors import MismatchError, MissingInputError
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.common.json_files import read_json
from whale.data.storage.episode_index import EpisodeRow
from whale.data.storage.images import glance
from whale.data.storage.shards import ShardSet

CHUNK = 2**16
SIDE = 64  # pixels that are enough for a grid of 8 cells


@dataclass(frozen=True)
class Films:
    """The codes of one split of a dataset, one row of `codes` per key."""

    dataset: Dataset
    keys: list[str]
    codes: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, split: str) -> "Films":
        """Reads some frames of each kept episode. MissingInputError where the shards are not there."""
        shards = _open(dataset)
        rows = shards.episodes(split) if split in shards.splits else []
        codes = [_code(shards, row) for row in rows]
        return cls(dataset, [row.key for row in rows], np.stack([np.zeros(CODE_BYTES, np.uint8), *codes])[1:])


def near_copies(held_out: Films, trained: Films, role: str) -> list[dict[str, Any]]:
    """For each held-out episode the nearest other episode of `trained`, if it is nearer than NEAR."""
    found = []
    chunks = [trained.codes[start : start + CHUNK] for start in range(0, len(trained.codes), CHUNK)]
    for key, code in zip(held_out.keys, held_out.codes, strict=True):
        to = np.concatenate([np.ones(0), *(distances(code, each) for each in chunks)])
        if held_out.dataset.id == trained.dataset.id and key in trained.keys:
            to[trained.keys.index(key)] = 1.0
        if len(to) and to.min() <= NEAR:
            like, distance = trained.keys[int(to.argmin())], round(float(to.min()), 4)
            found.append({"episode": key, "is": like, "role": role, "by": "frames", "distance": distance})
    return found


def _code(shards: ShardSet, row: EpisodeRow) -> np.ndarray:
    role = "primary" if "primary" in row.frames else min(row.frames)
    numbers = frame_numbers(row.num_steps)
    encoded = {number: shards.read_encoded(row, number, number + 1, role)[0] for number in set(numbers)}
    return film_code([glance(encoded[number], SIDE) for number in numbers])


def _open(dataset: Dataset) -> ShardSet:
    """The shards that the ingest of `dataset` published; MismatchError if other ones lie there."""
    name = next(each for each in dataset.run.outputs if Path(each).name == MANIFEST_NAME)
    path, expected = Path(name), dataset.run.subjects[name]
    if not path.is_file():
        raise _gone(dataset, path.parent)
    if (found := sha256_of_file(path)) != expected:
        raise MismatchError("not the shards that were signed", file=path, found=found, expected=expected)
    for row in read_json(path.parent / "manifest.json")["shards"]:
        if not (path.parent / row["file"]).is_file():
            raise _gone(dataset, path.parent / row["file"])
    return ShardSet.open(path.parent)


def _gone(dataset: Dataset, path: Path) -> MissingInputError:
    remedy = "`dvc checkout`, or `dvc pull`; without --near the ledger alone is asked, for equal content"
    what = "--near looks at frames, and the shards are not here"
    return MissingInputError(what, file=path, place=dataset.id, remedy=remedy)
