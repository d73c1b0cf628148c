"""The second reader of a format, by the word in the spec; its library is imported when it is needed."""

from pathlib import Path

from whale.audit.conversion.plain import PlainReader


def open_plain(kind: str, directory: Path) -> PlainReader:
    """`directory`: of the dataset, as our own reader found it."""
    if kind == "rlds":
        from whale.audit.conversion.rlds import RldsByTfds

        return RldsByTfds(directory)
    if kind == "lerobot":
        from whale.audit.conversion.lerobot import LeRobotByTime

        return LeRobotByTime(directory)
    if kind == "hdf5":
        from whale.audit.conversion.hdf5 import DemosByH5py

        return DemosByH5py(directory)
    from whale.audit.conversion.npz import FilesByNumpy

    return FilesByNumpy(directory)
