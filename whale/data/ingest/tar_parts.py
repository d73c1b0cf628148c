"""The tars that one source file fills: per split one at a time, a new part when the next sample would be too much."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError
from whale.data.storage.tar import BLOCK, Member, TarWriter

MAX_PARTS = 1000


@dataclass
class _Open:
    tar: TarWriter
    split: str
    keys: list[str]
    steps: int


class TarParts:
    """A context manager; `entries` lists the finished shards (manifest.ShardEntry as a mapping) after a clean exit.

    <root>/<split>/<name>-<split>-<file_number:05d>-<part:03d>.tar
    """

    def __init__(self, root: Path, name: str, file_number: int, shard_bytes: int):
        self.root, self.name, self.file_number, self.shard_bytes = root, name, file_number, shard_bytes
        self.entries: list[dict[str, Any]] = []
        self._open: dict[str, _Open] = {}
        self._parts: dict[str, int] = {}

    def __enter__(self) -> "TarParts":
        return self

    def __exit__(self, kind, error, trace) -> None:
        for split in sorted(self._open):
            self._close(split, kind, error, trace)
        self.entries.sort(key=lambda entry: entry["file"])

    def write(self, split: str, key: str, members: Mapping[str, bytes], steps: int) -> tuple[str, list[Member]]:
        """Append one sample; returns the shard's file name and where its members lie."""
        size = sum(BLOCK + len(data) + -len(data) % BLOCK for data in members.values())
        current = self._open.get(split)
        if current is not None and current.tar.position + size > self.shard_bytes:
            self._close(split)
        if split not in self._open:
            self._start(split)
        part = self._open[split]
        part.keys.append(key)
        part.steps += steps
        return part.tar.file, part.tar.write_sample(key, members)

    def _start(self, split: str) -> None:
        part = self._parts.get(split, 0)
        if part >= MAX_PARTS:
            raise BadDataError("too many shards of one source file", found=part, remedy="raise ingest.shard_bytes")
        self._parts[split] = part + 1
        tar = TarWriter(self.root, f"{split}/{self.name}-{split}-{self.file_number:05d}-{part:03d}.tar")
        self._open[split] = _Open(tar.__enter__(), split, [], 0)

    def _close(self, split: str, kind=None, error=None, trace=None) -> None:
        part = self._open.pop(split)
        part.tar.__exit__(kind, error, trace)
        if kind is None and part.tar.info is not None:
            info = part.tar.info
            self.entries.append(
                {"file": info.file, "bytes": info.bytes, "sha256": info.sha256, "split": split, "steps": part.steps,
                 "episodes": len(part.keys), "first_key": part.keys[0], "last_key": part.keys[-1]}
            )  # fmt: skip
