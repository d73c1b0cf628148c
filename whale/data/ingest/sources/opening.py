"""The reader of a format, by the word in the spec. A new format is one class and two lines here.

A reader is imported when it is needed: PyAV and h5py are for those who ingest.
"""

from pathlib import Path

from whale.common.errors import ConfigError
from whale.data.ingest.sources.location import MARKERS
from whale.data.ingest.sources.rlds import RldsSource
from whale.data.ingest.sources.source import Source


def open_source(kind: str, directory: Path, name: str, version: str) -> Source:
    """`name`, `version`: for formats whose files do not say; RLDS and LeRobot are compared with the spec by ingest."""
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
