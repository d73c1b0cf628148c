"""Proof that a folder of shards is exactly what its manifest and its index say: every byte is read once.

Training trusts positions and checksums of what it reads; this looks at all the rest too: headers, padding, the end of
each tar, files nobody listed. Findings are collected, not raised, so that one run names everything that is wrong.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c

from whale.common.errors import BadDataError
from whale.common.files import MANIFEST_NAME
from whale.data.storage.episode_index import EpisodeRow
from whale.data.storage.images import ImageError, decode
from whale.data.storage.manifest import ShardEntry
from whale.data.storage.shards import ShardSet
from whale.data.storage.tar import BLOCK, RECORD, Member, header, open_file

SEALS = ("manifest.json", MANIFEST_NAME, "lineage.json")  # the last two are the stage's
CHUNK = 2**20


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    file: str
    place: str
    what: str
    found: str = ""
    expected: str = ""

    def __str__(self) -> str:
        place = f" at {self.place}" if self.place else ""
        found = f", found {self.found}" if self.found else ""
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{self.file}: {self.what}{place}{found}{expected}"


@dataclass
class Report:
    """What was read of one dataset, and what was wrong with it."""

    directory: Path
    name: str = ""
    shards: int = 0
    episodes: int = 0
    frames: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)


def check_shards(directory: Path, decode_frames: bool = False) -> Report:
    """Read everything. Raises MissingInputError or RefusedError when there is no dataset of this format at all.

    decode_frames: also decode every frame and compare its size with the manifest's resolution.
    """
    report = Report(Path(directory))
    try:
        shards = ShardSet.open(directory)
        indices = [shards.episodes(split) for split in shards.splits]
    except BadDataError as error:
        report.findings.append(_of_error(error))
        return report
    report.name, manifest = shards.name, shards.law
    resolution = manifest.images.resolution if decode_frames else None
    for entry in manifest.shards:
        chosen = sorted((row for index in indices for row in index.in_shard(entry.file)), key=lambda row: row.key)
        report.findings += [*_check_totals(entry, chosen), *_walk(shards.directory, entry, chosen, resolution)]
        report.shards, report.bytes = report.shards + 1, report.bytes + entry.bytes
        report.episodes, report.frames = report.episodes + len(chosen), report.frames + sum(r.num_steps for r in chosen)
    report.findings += _unlisted(
        shards.directory, {*(entry.file for entry in manifest.shards), *manifest.files, *SEALS}
    )
    return report


def _check_totals(entry: ShardEntry, rows: Sequence[EpisodeRow]) -> Iterator[Finding]:
    steps = sum(row.num_steps for row in rows)
    keys = (rows[0].key, rows[-1].key) if rows else ("", "")
    found, expected = (len(rows), steps, *keys), (entry.episodes, entry.steps, entry.first_key, entry.last_key)
    if found != expected:
        yield Finding(entry.file, "", "episodes, steps, first and last key differ", str(found), str(expected))


def _walk(root: Path, entry: ShardEntry, rows: Sequence[EpisodeRow], resolution: int | None) -> Iterator[Finding]:
    """The tar from its first byte to its last, against the members that the index lists."""
    members = sorted((member for row in rows for member in row.members()), key=lambda member: member.offset)
    digest, position = hashlib.sha256(), 0
    with open_file(root / entry.file) as stream:
        for member in members:
            if member.offset != position + BLOCK:
                place = f"byte {position}"
                yield Finding(entry.file, place, "bytes that the index does not list", "", f"{member.name} here")
                skipped = _read(stream, member.offset - BLOCK - position) if member.offset - BLOCK > position else b""
                digest.update(skipped)
                position += len(skipped)
            head, payload = _read(stream, BLOCK), _read(stream, member.size)
            padding = _read(stream, -member.size % BLOCK)
            for data in (head, payload, padding):
                digest.update(data)
            position += len(head) + len(payload) + len(padding)
            yield from _check_member(entry.file, member, head, payload, padding, resolution)
        rest = b"".join(iter(lambda: stream.read(CHUNK), b""))
        digest.update(rest)
    end = -(-(position + 2 * BLOCK) // RECORD) * RECORD
    if rest.strip(b"\0") or position + len(rest) != end:
        found = f"{len(rest)} bytes more"
        yield Finding(entry.file, f"byte {position}", "the tar does not end in zeros", found, f"an end at {end}")
    if digest.hexdigest() != entry.sha256:
        yield Finding(entry.file, "", "sha256 differs", digest.hexdigest(), entry.sha256)


def _check_member(
    file: str, member: Member, head: bytes, payload: bytes, padding: bytes, resolution: int | None
) -> Iterator[Finding]:
    place = f"{member.name}, byte {member.offset}"
    if head != header(member.name, member.size):
        yield Finding(file, place, "the header is not the one that we write")
    if len(payload) != member.size:
        yield Finding(file, place, "the shard ends inside a member", str(len(payload)), str(member.size))
    elif (crc := google_crc32c.value(payload)) != member.crc32c:
        yield Finding(file, place, "CRC-32C differs", f"{crc:08x}", f"{member.crc32c:08x}")
    elif resolution is not None and member.name.endswith(".jpg"):
        yield from _check_frame(file, place, payload, resolution)
    if padding.strip(b"\0"):
        yield Finding(file, place, "padding is not zero")


def _check_frame(file: str, place: str, payload: bytes, resolution: int) -> Iterator[Finding]:
    try:
        shape = decode(payload).shape
    except ImageError as error:
        yield Finding(file, place, error.what, str(error.found))
        return
    if shape != (resolution, resolution, 3):
        yield Finding(file, place, "a frame of another size", str(shape), f"{resolution} x {resolution}")


def _unlisted(root: Path, listed: set[str]) -> Iterator[Finding]:
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not path.is_dir() and name not in listed:
            kind = "a killed writer's leftover" if ".tmp-" in path.name else "a file that the manifest does not list"
            yield Finding(name, "", kind)


def _read(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer only at the end of the file (the stream is not buffered)."""
    parts: list[bytes] = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _of_error(error: BadDataError) -> Finding:
    told: dict[str, Any] = {name: getattr(error, name) for name in ("file", "place", "found", "expected")}
    return Finding(what=error.what, **{name: "" if value is None else str(value) for name, value in told.items()})
