"""A few raw episodes of a dataset that nobody has described yet, as arrays by feature name.

Shapes: T steps of all episodes together, D columns.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from whale.common.errors import BadDataError, MissingInputError
from whale.data.ingest.sources.location import MARKERS, looks_like
from whale.data.ingest.sources.opening import open_source
from whale.data.ingest.sources.source import Source, require_files
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected
from whale.data.storage.images import ImageError, image_size

EPISODES = 12


@dataclass(frozen=True)
class Sample:
    """What was found: the open source, the split it was read from, and its first episodes."""

    kind: str
    source: Source
    split: str
    episodes: Sequence[RawEpisode]

    def numbers(self) -> dict[str, list[np.ndarray]]:
        """Numeric step features: name -> (T, D) float64 per episode; features of more than one axis are left out."""
        found: dict[str, list[np.ndarray]] = {}
        for name, values in self.episodes[0].steps.items():
            if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and values.ndim <= 2:
                held = [raw.steps.get(name) for raw in self.episodes]
                arrays = [np.asarray(each, np.float64) for each in held if isinstance(each, np.ndarray)]
                arrays = [array[:, None] if array.ndim == 1 else array for array in arrays]
                widths = {array.shape[1] for array in arrays if array.ndim == 2}
                if len(arrays) == len(self.episodes) and len(widths) == 1 and widths != {0}:
                    found[name] = arrays
        return found

    def column_names(self, feature: str) -> list[str]:
        """What the dataset calls the columns of a feature; empty where it does not say (LeRobot may)."""
        names = (self.source.columns or {}).get(feature)
        while isinstance(names, dict) and names:
            names = next(iter(names.values()))
        return [str(name) for name in names] if isinstance(names, list) else []

    def images(self) -> dict[str, tuple[int, int]]:
        """Features that hold pictures: name -> (height, width)."""
        found = {}
        for name, values in self.episodes[0].steps.items():
            if isinstance(values, np.ndarray) or not len(values):
                continue
            try:
                found[name] = image_size(values[0])
            except ImageError:
                continue
            except EpisodeError as error:
                what, remedy = "the first frame of a camera cannot be read", "repair or take away what is named"
                file = self.source.directory
                raise BadDataError(what, file=file, place=name, found=str(error), remedy=remedy) from None
        return found

    def texts(self) -> dict[str, list[str]]:
        """Features that hold text: name -> first text of each episode."""
        found = {}
        for name, values in self.episodes[0].steps.items():
            if name not in self.images() and isinstance(values, list):
                held = [raw.steps.get(name) or [b""] for raw in self.episodes]
                found[name] = [bytes(values[0]).decode("utf-8", "replace") for values in held]
        return found

    def labels(self) -> dict[str, list[str]]:
        """Text that belongs to a whole episode: name -> text of each episode."""
        names = [name for name, value in self.episodes[0].metadata.items() if isinstance(value, bytes)]
        return {name: [_text(raw.metadata.get(name)) for raw in self.episodes] for name in names}

    def described(self) -> dict[str, str]:
        """Everything an episode holds: name -> in a few words what."""
        raw, numbers, images = self.episodes[0], self.numbers(), self.images()
        found = {name: "of an episode" for name in raw.metadata} | dict.fromkeys(self.labels(), "text of an episode")
        for name, values in raw.steps.items():
            if name in images:
                found[name] = "pictures"
            elif name in numbers:
                width = numbers[name][0].shape[1]
                found[name] = f"{width} column{'s' if width > 1 else ''}"
            else:
                found[name] = f"shape {values.shape[1:]}" if isinstance(values, np.ndarray) else "text"
        return found


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def take_sample(path: Path) -> Sample:
    """Read the first episodes of whatever lies at `path`; BadDataError or MissingInputError if that is nothing."""
    kind = looks_like(path) if path.is_dir() else None
    if kind is None:
        expected = "a folder with dataset_info.json, meta/info.json, *.hdf5 or *.npz"
        raise MissingInputError(f"none of the formats {', '.join(MARKERS)}", file=path, expected=expected)
    source = open_source(kind, path, path.resolve().name, "1.0.0")
    split = "train" if "train" in source.splits else next(iter(source.splits))
    require_files(source, source.splits[split][:1])
    outcomes = first_episodes(source, split, EPISODES)
    episodes = [outcome for outcome in outcomes if isinstance(outcome, RawEpisode) and outcome.num_steps > 0]
    if not episodes:
        details = [getattr(outcome, "detail", "empty") for outcome in outcomes[:3]]
        raise BadDataError("no episode can be read", file=path, place=split, found="; ".join(details) or "none")
    return Sample(kind, source, split, episodes)


def first_episodes(
    source: Source, split: str, count: int, keys: Collection[str] | None = None
) -> list[RawEpisode | Rejected]:
    """The first outcomes of a split, in order."""
    found: list[RawEpisode | Rejected] = []
    for index in range(len(source.splits[split])):
        found += islice(iter(source.read_shard(split, index, keys, hashed=False)), count - len(found))
        if len(found) >= count:
            break
    return found
