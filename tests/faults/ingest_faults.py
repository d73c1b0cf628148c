"""Faults of sources, of writers that are killed, of disks: F1-F5, F8, F24, F25, F29, on tiny real RLDS datasets."""

import errno
import hashlib
import os
import shutil
import struct
import time
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import simplejpeg
from faults.outcomes import CLEAR, RIGHT, SILENT, Fault, count_events, killed_at, outcome, worst
from rlds_bytes import frame
from rlds_fixture import SIZE, episode, episodes, spec_values, tiny_spec, write_rlds

from whale.common.errors import CannotWriteError
from whale.common.files import write_atomically
from whale.data.ingest.finish import finish
from whale.data.ingest.ingest import IngestConfig, plan_tasks, process_source_shard
from whale.data.storage.shards import ShardSet

NUM_KILLS = int(os.environ.get("WHALE_FAULT_KILLS", "8"))  # scripts/fault_table.py takes 50
DISK_FULL_AT = NUM_KILLS // 2


def config(**changes) -> IngestConfig:
    values = {"resolution": 16, "jpeg_quality": 95, "shard_bytes": 2**14, "max_bad": 0}
    values |= {"quality": {"policy": "fail", "budget": 0}}
    return IngestConfig.parse(values | changes, file="params.yaml")


def raw_data(folder: Path) -> Path:
    return write_rlds(folder / "raw", {"train": [episodes([6, 9]), episodes([5], 1)], "val": [episodes([7], 2)]})


def ingest(folder: Path, raw: Path, spec=None, name: str = "out", **changes) -> Path:
    """All units, then the end; a rerun in the same folder continues."""
    tasks = plan_tasks(raw, spec or tiny_spec(), config(**changes), folder / f"{name}-work", folder)
    for task in tasks:
        process_source_shard(task)
    finish(tasks, folder / f"{name}-work", folder / name)
    return folder / name


def digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def killed_writer(folder: Path) -> str:
    """F1, F2: at events spread over the whole ingest: nothing incomplete under a final name, and the same bytes."""
    raw = raw_data(folder)
    golden = digests(ingest(folder, raw, name="golden"))
    total = count_events(lambda: ingest(folder, raw, name="count"))
    outcomes = []
    for number in np.unique(np.linspace(0, total - 1, NUM_KILLS).round().astype(int)):
        name = f"at{number}"
        assert killed_at(int(number), lambda name=name: ingest(folder, raw, name=name)), number
        half = folder / name
        outcomes += [SILENT] if (half / "manifest.json").is_file() and digests(half) != golden else []
        shutil.rmtree(half, ignore_errors=True)  # a stage gets a fresh folder and publishes it by rename
        whole = digests(ingest(folder, raw, name=name))
        outcomes.append(RIGHT if whole == golden else SILENT)
        outcomes += [SILENT] if list((folder / f"{name}-work").rglob("*.tmp-*")) else []
    return worst(outcomes)


def rerun_does_nothing(folder: Path) -> str:
    """F2: the second rerun touches no shard and no fragment; only the reports beside them are written again."""
    raw = raw_data(folder)
    ingest(folder, raw)

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (folder / "out-work").glob("*/*")}

    before = times()
    ingest(folder, raw)
    return RIGHT if times() == before else SILENT


def power_cut(folder: Path) -> str:
    """F3: at every moment, what a manifest on disk names is on disk: file synced, renamed or linked, folder synced."""
    synced, pending, durable, events = set(), {}, set(), []
    real = {name: getattr(os, name) for name in ("fsync", "replace", "link")}

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            durable.update(name for name, parent in pending.items() if parent == path)
            events.append(set(durable))
        else:
            synced.add(path.stat().st_ino)
        real["fsync"](descriptor)

    def named(kind: str):
        def function(source, target, **keywords) -> None:
            if os.stat(source).st_ino in synced:
                pending[Path(target)] = Path(target).parent
            real[kind](source, target, **keywords)

        return function

    raw = raw_data(folder)
    with mock.patch.multiple(os, fsync=fsync, replace=named("replace"), link=named("link")):
        out = ingest(folder, raw)
    law = ShardSet.open(out).law
    needed = {out / name for name in [*law.files, *(shard.file for shard in law.shards)]}
    return RIGHT if all(needed <= moment for moment in events if out / "manifest.json" in moment) else SILENT


def disk_full(folder: Path) -> str:
    """F4: ENOSPC at some events: an error of ours, no partial file, the rerun gives the same bytes."""
    raw = raw_data(folder)
    golden = digests(ingest(folder, raw, name="golden"))
    outcomes = []
    for number in range(DISK_FULL_AT):
        with mock.patch.object(os, "fsync", side_effect=_full_at(number)):
            outcomes.append(outcome(lambda n=number: ingest(folder, raw, name=f"full{n}"), names="No space left"))
        outcomes += [SILENT] if list(folder.glob(f"full{number}*/**/*.tmp-*")) else []
        outcomes += [SILENT] if digests(ingest(folder, raw, name=f"full{number}")) != golden else []
    return worst(outcomes)


def _full_at(number: int):
    real, count = os.fsync, [0]

    def fsync(descriptor: int) -> None:
        count[0] += 1
        if count[0] == number + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    return fsync


def damaged_file(change, names: str = "tiny-train.tfrecord-00000-of-00002"):
    """F5: a source file is changed before ingest."""

    def run(folder: Path) -> str:
        raw = raw_data(folder)
        path = raw / "tiny-train.tfrecord-00000-of-00002"
        path.write_bytes(change(path.read_bytes()))
        return outcome(lambda: ingest(folder, raw), names=names)

    return run


def _flip(position: int):
    return lambda data: data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def _at_boundary(data: bytes) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    return data[: length + 16]


def odd_image(make):
    """F8: one frame of one episode is `make(rng)`; within the budget it goes with a count, others are unchanged."""

    def run(folder: Path) -> str:
        good, rng = episodes([4, 5]), np.random.default_rng(7)
        bad = episode(rng, 4)
        bad["steps/observation/image"][2] = make(rng)
        raw = write_rlds(folder / "bad", {"train": [[*good, bad]], "val": [episodes([4], 3)]})
        refused = outcome(lambda: ingest(folder, raw), names="step 2")
        kept = ShardSet.open(ingest(folder, raw, name="kept", max_bad=1))
        clean = write_rlds(folder / "good", {"train": [good], "val": [episodes([4], 3)]})
        alone = ShardSet.open(ingest(folder, clean, name="alone"))
        same = [kept.read_encoded(row, 0, row.num_steps) for row in kept.episodes("train")] == [
            alone.read_encoded(row, 0, row.num_steps) for row in alone.episodes("train")
        ]
        counted = sum(count.episodes for count in kept.law.dropped.values()) == 1
        return refused if same and counted else SILENT

    return run


def _jpeg(rng, shape=(SIZE, SIZE, 3), **options) -> bytes:
    return simplejpeg.encode_jpeg(rng.integers(0, 255, shape, dtype=np.uint8), **options)


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _resized_header(data: bytes, height: int, width: int) -> bytes:
    """The JPEG with another size in its frame header."""
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def _cmyk(rng) -> bytes:
    from PIL import Image

    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"cmyk-{os.getpid()}.jpg"
    Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 4), dtype=np.uint8), "CMYK").save(path)
    data = path.read_bytes()
    path.unlink()
    return data


IMAGES = {
    "noise": lambda rng: rng.bytes(900),
    "cut": lambda rng: _jpeg(rng)[:-20],
    "0 x 0": lambda rng: _resized_header(_jpeg(rng), 0, 0),
    "60000 x 60000": lambda rng: _resized_header(_jpeg(rng), 60000, 60000),
    "grey": lambda rng: _jpeg(rng, (SIZE, SIZE, 1), colorspace="GRAY"),
    "CMYK": _cmyk,
    "16-bit PNG": lambda rng: _png(rng.integers(0, 2**16, (SIZE, SIZE, 3), dtype=np.uint16)),
    "GIF under a JPEG's name": lambda rng: b"GIF89a" + rng.bytes(200),
    "empty": lambda rng: b"",
}


def clock_jumps(folder: Path) -> str:
    """F24: a clock that runs backwards changes no byte."""
    raw = raw_data(folder)
    golden = digests(ingest(folder, raw, name="golden"))
    with mock.patch.object(time, "time", side_effect=iter(range(10**9, 0, -3600))):
        return RIGHT if digests(ingest(folder, raw, name="late")) == golden else SILENT


def unwritable(path: str):
    """F24: a place where nothing can be written."""

    def run(folder: Path) -> str:
        (folder / "file").write_bytes(b"")
        try:
            write_atomically(folder / path, b"x")
        except CannotWriteError as error:
            return CLEAR if str(folder) in str(error) or path in str(error) else SILENT
        return SILENT

    return run


def not_utf8(folder: Path) -> str:
    """F24: a dataset whose info names a file that is not UTF-8."""
    raw = raw_data(folder)
    info = raw / "dataset_info.json"
    info.write_bytes(info.read_bytes().replace(b'"name": "train"', b'"name": "tr\xe4in"'))
    return outcome(lambda: ingest(folder, raw), names="dataset_info.json")


def small(splits: dict[str, list[list[int]]], right: int | None = None, **spec):
    """F25: a dataset of these episode lengths; `right`: kept train episodes."""

    def run(folder: Path) -> str:
        files = {name: [episodes(lengths, 5) for lengths in shards] for name, shards in splits.items()}
        raw = write_rlds(folder, files)
        act = lambda: len(ShardSet.open(ingest(folder, raw, tiny_spec(**spec))).episodes("train"))  # noqa: E731
        return outcome(act, right=right)

    return run


def drifted(change, names: str, **spec):
    """F29: the data are no longer what the spec says; the error names the field."""

    def run(folder: Path) -> str:
        changed = episodes([6, 4])
        for each in changed:
            change(each)
        raw = write_rlds(folder, {"train": [changed], "val": [episodes([5], 1)]})
        return outcome(lambda: ingest(folder, raw, tiny_spec(**spec)), names=names)

    return run


def _wider_action(each: dict) -> None:
    each["steps/action"] = np.zeros(len(each["steps/is_first"]) * 8, np.float32)


def _larger_frames(each: dict) -> None:
    rng = np.random.default_rng(0)
    each["steps/observation/image"] = [_jpeg(rng, (32, 32, 3)) for _ in each["steps/is_first"]]


FILES = {
    "cut in a length": lambda data: data[:5],
    "cut in the data": lambda data: data[:-9],
    "cut between records": _at_boundary,
    "length CRC flipped": _flip(9),
    "payload flipped": _flip(60),
    "last CRC flipped": _flip(-1),
    "length 2^60": lambda data: frame(b"")[:0] + struct.pack("<Q", 2**60) + data[8:],
    "0 bytes": lambda data: b"",
    "LFS pointer": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "HTML": lambda data: b"<!DOCTYPE html><html><body>404</body></html>",
    "gzip": lambda data: b"\x1f\x8b" + data,
}
ONE = {"train": [[5]], "val": [[4]]}
FILTER = {"filters": [{"key": "language_instruction", "equals": "fly", "reason": "x"}], "edits": [], "min_steps": 2}
INGEST_FAULTS = [
    Fault("F1", f"writer killed at {NUM_KILLS} events, rerun", killed_writer),
    Fault("F2", "rerun after success", rerun_does_nothing),
    Fault("F3", "power cut at any moment", power_cut),
    Fault("F4", "disk full, rerun", disk_full),
    *(Fault("F5", f"TFRecord {name}", damaged_file(change)) for name, change in FILES.items()),
    *(Fault("F8", f"image {name}", odd_image(make)) for name, make in IMAGES.items()),
    Fault("F24", "clock runs backwards", clock_jumps),
    Fault("F24", "read-only place", unwritable("../../../../../../../../../../sys/whale/x")),
    Fault("F24", "a file where a folder should be", unwritable("file/x")),
    Fault("F24", "name of 255 characters", unwritable("n" * 255)),
    Fault("F24", "names that are not UTF-8", not_utf8),
    Fault("F25", "no file", small({"train": [], "val": [[4]]})),
    Fault("F25", "an empty file", small({"train": [[]], "val": [[4]]})),
    Fault("F25", "one episode", small(ONE, right=1)),
    Fault("F25", "one frame", small({"train": [[1, 5]], "val": [[4]]}, right=1)),
    Fault("F25", "only one-frame episodes", small({"train": [[1]], "val": [[1]]})),
    Fault("F25", "a filter that keeps nothing", small(ONE, episodes=FILTER)),
    Fault("F29", "wider action", drifted(_wider_action, "steps/action")),
    Fault("F29", "larger frames", drifted(_larger_frames, "observation/image")),
    Fault("F29", "camera gone", drifted(lambda each: each.pop("steps/observation/image"), "observation/image")),
    Fault(
        "F29", "camera renamed in the spec",
        drifted(lambda each: None, "observation/front",
                cameras={"primary": spec_values()["cameras"]["primary"] | {"key": "observation/front"}}),
    ),
    Fault(
        "F29", "language as numbers",
        drifted(lambda each: each.update({"steps/language_instruction": each["steps/is_first"]}), "language_instr"),
    ),
    Fault(
        "F29", "action as integers",
        drifted(lambda each: each.update({"steps/action": each["steps/action"].astype(np.int64)}), "action"),
    ),
    Fault("F29", "state of other length", drifted(lambda each: each.update({"steps/observation/state": each["steps/observation/state"][:-7]}), "observation/state")),  # noqa: E501
]  # fmt: skip
