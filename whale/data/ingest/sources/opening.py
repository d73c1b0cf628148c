"""The reader of a format, by the word in the spec. A new format is one class and two lines here.

A reader is imported when it is needed: PyAV and h5py are for those who ingest. All are used through `Bounded`: what a
file can do to a reader or its library that nobody foresaw is an error of that file, for every format alike. A bug that
no file can cause stays one (`is_bug` of boundary.py), and so does a missing package.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from whale.common.boundary import reading
from whale.common.errors import ConfigError
from whale.data.ingest.sources.location import MARKERS
from whale.data.ingest.sources.rlds import RldsSource
from whale.data.ingest.sources.source import ShardFile, Source, UnitReader
from whale.data.spec.episode import RawEpisode, Rejected


def open_source(kind: str, directory: Path, name: str, version: str) -> Source:
    """`name`, `version`: for formats whose files do not say; RLDS and LeRobot are compared with the spec by ingest."""
    with reading(directory, f"not a dataset of the form {kind}"):
        return Bounded(_open(kind, directory, name, version))


class Bounded:
    """A source whose errors name a file: of the unit that is read, else the folder of the dataset."""

    def __init__(self, source: Source):
        self.source, self.directory = source, source.directory
        self.name, self.version, self.splits = source.name, source.version, source.splits

    @property
    def features(self) -> Collection[str]:
        with reading(self.directory, "features that cannot be read"):
            return self.source.features

    @property
    def left_out(self) -> Mapping[str, str]:
        with reading(self.directory, "features that cannot be read"):
            return self.source.left_out

    @property
    def rate(self) -> float | None:
        with reading(self.directory, "a rate that cannot be read"):
            return self.source.rate

    @property
    def columns(self) -> Mapping[str, object] | None:
        with reading(self.directory, "columns that cannot be read"):
            return self.source.columns

    def read_shard(
        self, split: str, index: int, keys: Collection[str] | None = None, hashed: bool = True
    ) -> UnitReader:
        shard = self.splits[split][index]  # outside: a split that is not there is the caller's mistake
        with reading(self.directory / shard.file, "a unit that cannot be read"):
            return BoundedReader(self.source.read_shard(split, index, keys, hashed), self.directory, shard)


class BoundedReader:
    """The outcomes of one unit; what goes wrong between two of them is an error of the unit's file. What is done with
    an outcome stands outside."""

    def __init__(self, reader: UnitReader, directory: Path, shard: ShardFile):
        self.reader, self.file, self.files = reader, directory / shard.file, reader.files

    def __iter__(self) -> Iterator[RawEpisode | Rejected]:
        outcomes = iter(self.reader)
        while True:
            with reading(self.file, "a unit that cannot be read"):
                outcome = next(outcomes, None)
            self.files = self.reader.files
            if outcome is None:
                return
            yield outcome


def _open(kind: str, directory: Path, name: str, version: str) -> Source:
    if kind == "rlds":
        return RldsSource(directory)
    if kind == "lerobot":
        from whale.data.ingest.sources.lerobot import LeRobotSource

        return LeRobotSource(directory, name)
    if kind == "hdf5":
        from whale.data.ingest.sources.hdf5 import Hdf5Source

        return Hdf5Source(directory, name, version)
    if kind == "npz":
        from whale.data.ingest.sources.npz import NpzSource

        return NpzSource(directory, name, version)
    raise ConfigError("no reader for this format", place="source.format", found=kind, expected=", ".join(MARKERS))
