"""The end of an ingest: fragments of all source files -> one sealed dataset folder, or a refusal with a report.

The index rows of a dataset never stand in memory together: those of one source file at a time pass from its fragment
to episodes.parquet, split by split, which is the order of the keys. Only what the quality gate compares does.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whale.common.errors import BadDataError
from whale.common.files import sync_file
from whale.common.json_files import write_json
from whale.data.ingest.ingest import IngestTask, read_fragment
from whale.data.ingest.quality.gate import Evidence, enforce, judge, unjudged
from whale.data.ingest.statistics import action_statistics
from whale.data.spec.episode import ACTION_NAMES, BAD_REASONS
from whale.data.spec.spec import DatasetSpec
from whale.data.storage import manifest
from whale.data.storage.files import copy_file, write_listing
from whale.data.storage.images import ENCODER

SIDE_FILES = ("contract.json", "episodes.parquet", "quality.json", "quarantine.parquet", "statistics.json")


def finish(tasks: Sequence[IngestTask], work: Path, out: Path, is_whole: bool = True) -> dict[str, Any]:
    """Move the shards from `work` to `out` and write everything beside them, manifest.json last.

    is_whole: these are all tasks of the dataset; of a sample, no split but train needs an episode.
    Returns the stage's metrics. Raises BadDataError when more than `max_bad` records are broken; the report,
    <work>/quarantine.parquet, has been written by then.
    """
    spec, config = tasks[0].spec, tasks[0].config
    fragments = [_require_fragment(task) for task in tasks]
    for leftover in work.glob(".*.tmp-*"):
        leftover.unlink()  # of an end that was killed
    counts = _Counts(spec.source.splits)
    dropped: list[dict[str, Any]] = []
    for table in _tables(tasks, fragments):
        counts.add(table)
        missing = table.filter(pc.invert(table["kept"])).select(["key", "source_file", "record_index", "byte_offset",
                               "payload_sha256", "reason", "detail", "steps_in"])  # fmt: skip
        dropped += [row | {"steps": row["steps_in"]} for row in missing.to_pylist()]
    manifest.write_table(work / "quarantine.parquet", dropped, manifest.quarantine_schema())
    _require_few_bad(dropped, config.max_bad, work / "quarantine.parquet", counts.read["episodes"])
    statistics = _statistics(tasks, spec, counts.kept["train"]["episodes"])
    compared = [row for fragment in fragments for row in fragment["compared"]]
    report = judge(Evidence.merge(fragment["quality"] for fragment in fragments), statistics, compared, spec)
    write_json(work / "quality.json", report)
    enforce(report, config.quality, work / "quality.json")
    shards = [shard for fragment in fragments for shard in fragment["shards"]]
    counts.require_law(shards, is_whole)
    if statistics is None:
        raise BadDataError("no valid train step: there is nothing to compute statistics of", place=spec.name)
    out.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        _place(work / shard["file"], out / shard["file"])
    for folder in sorted({(out / shard["file"]).parent for shard in shards}):
        sync_file(folder)
    schema = manifest.episode_schema(config.cameras)
    with manifest.table_writer(out / "episodes.parquet", schema) as writer:
        for table in _tables(tasks, fragments):
            writer.write_table(table.select(schema.names))
    for name in ("quarantine.parquet", "quality.json"):
        copy_file(work / name, out / name)
    write_json(out / "statistics.json", statistics)
    write_json(out / "contract.json", contract(spec, config.resolution))
    listed = {
        "format_version": manifest.FORMAT_VERSION,
        "name": spec.name,
        "spec_digest": spec.digest(),
        "control_hz": spec.robot.control_hz,
        "images": {"resolution": config.resolution, "mode": "stretch", "jpeg_quality": config.jpeg_quality}
        | {"encoder": ENCODER, "roles": config.cameras},
        "sources": [fragment["source"] for fragment in fragments],
        "shards": sorted(shards, key=lambda shard: shard["file"]),
        "files": {name: manifest.file_entry(out / name).model_dump() for name in SIDE_FILES},
        **counts.as_dict(),
    }
    checked = manifest.Manifest.parse(listed, file=out / "manifest.json")
    write_listing(out / "manifest.json", checked.model_dump(mode="json"))
    outcomes = Counter(verdict["outcome"] for verdict in report["verdicts"])
    return {"name": spec.name, **counts.as_dict(), "shards": len(shards), "quality": dict(sorted(outcomes.items())),
            "not_judged": unjudged(report["verdicts"])}  # fmt: skip


def in_one_line(report: Mapping[str, Any], seconds: float) -> str:
    """What came of an ingest, for the person who waits: `report` as `finish` returns it."""
    kept, dropped = ({name: count["episodes"] for name, count in report[part].items()} for part in ("kept", "dropped"))
    steps = sum(count["steps"] for count in report["kept"].values())
    parts = [
        f"{sum(kept.values()):,} of {report['read']['episodes']:,} episodes kept ({_counted(kept)})",
        f"{sum(dropped.values()):,} dropped" + (f" ({_counted(dropped)})" if dropped else ""),
        f"{steps:,} steps in {report['shards']:,} shards",
        f"verdicts: {_counted(report['quality'])}".replace("not_judged", "not judged"),
        *([f"NOT JUDGED: {'; '.join(report['not_judged'])}"] if report["not_judged"] else []),
        f"{seconds:.1f} s",
    ]
    return f"{report['name']}: {'; '.join(parts)}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())


def contract(spec: DatasetSpec, resolution: int) -> dict[str, Any]:
    """contract.json: what frames and actions of these shards mean; travels into every checkpoint."""
    promise = spec.action.contract
    return {
        "name": spec.name,
        "robot": spec.robot.name,
        "control_hz": spec.robot.control_hz,
        "resolution": resolution,
        "dimensions": list(ACTION_NAMES),
        "gripper": "absolute in [0, 1], 1 = open",
        **promise.model_dump(mode="json"),
        "action_mask": promise.action_mask(),
        "licence": spec.licence.model_dump(mode="json"),
    }


def _require_fragment(task: IngestTask) -> dict[str, Any]:
    fragment = read_fragment(task)
    if fragment is None:
        raise BadDataError("a source file was not ingested", file=task.fragment, place=task.shard.file)
    return fragment


def _tables(tasks: Sequence[IngestTask], fragments: Sequence[Mapping[str, Any]]) -> Iterator[pa.Table]:
    """Index rows in the order of their keys: split by split, source file by source file."""
    for split in sorted({split for fragment in fragments for split in fragment["splits"]}):
        for task, fragment in zip(tasks, fragments, strict=True):
            if split in fragment["splits"]:
                table = manifest.read_table(task.rows, manifest.fragment_schema(task.config.cameras))
                yield table.filter(pc.equal(table["split"], split)).sort_by("key")


def _require_few_bad(dropped: Sequence[Mapping[str, Any]], max_bad: int, report: Path, total: int) -> None:
    bad = [row for row in dropped if row["reason"] in BAD_REASONS]
    bad.sort(key=lambda row: (row["source_file"], row["record_index"]))
    if len(bad) > max_bad:
        lines = [f"{row['source_file']} record {row['record_index']}: {row['reason']}: {row['detail']}" for row in bad]
        byte = f", byte {bad[0]['byte_offset']}" if bad[0]["byte_offset"] >= 0 else ""
        raise BadDataError(
            f"{len(bad)} of {total} episodes are broken, max_bad is {max_bad}", file=bad[0]["source_file"],
            place=f"record {bad[0]['record_index']}{byte}",
            found="\n            ".join(lines[:5]), expected=f"at most {max_bad}",
            remedy=f"see {report}; repair the source and describe it anew (`whale data link`); or raise ingest.max_bad",
        )  # fmt: skip


class _Counts:
    """`read`, `kept` per split and `dropped` per reason; steps as recorded for read and dropped, as kept for kept."""

    def __init__(self, splits: Iterable[str]):
        self.read = _zero()
        self.kept = {split: _zero() for split in sorted(splits)}
        self.dropped: dict[str, dict[str, int]] = {}

    def add(self, table: pa.Table) -> None:
        """Count rows of one split of one source file."""
        columns = table.select(["split", "kept", "reason", "steps_in", "steps_out", "valid_steps"]).to_pylist()
        for row in columns:
            self.read["episodes"] += 1
            self.read["steps"] += row["steps_in"]
            count = self.kept[row["split"]] if row["kept"] else self.dropped.setdefault(row["reason"], _zero())
            count["episodes"] += 1
            count["steps"] += row["steps_out"] if row["kept"] else row["steps_in"]
            count["valid_steps"] += row["valid_steps"]

    def require_law(self, shards: Iterable[Mapping[str, Any]], is_whole: bool) -> None:
        """Something is left, read = kept + dropped, and what was kept is what lies in the shards."""
        kept = sum(count["episodes"] for count in self.kept.values())
        dropped = {reason: count["episodes"] for reason, count in sorted(self.dropped.items())}
        if not kept:
            raise BadDataError("no episode is left", found=dropped)
        empty = [split for split, count in self.kept.items() if not count["episodes"]]
        if empty and is_whole:
            raise BadDataError(
                "a split is left without an episode", place=f"source.splits: {', '.join(empty)}",
                found=f"dropped: {dropped}", expected="at least one episode of each split",
                remedy="give the split a larger share, or change what is dropped (filters, min_steps, exclude)",
            )  # fmt: skip
        stored = sum(shard["episodes"] for shard in shards)
        assert self.read["episodes"] == kept + sum(dropped.values()), (self.read, kept, dropped)
        assert kept == stored, (kept, stored)

    def as_dict(self) -> dict[str, Any]:
        return {"read": self.read, "kept": self.kept, "dropped": dict(sorted(self.dropped.items()))}


def _zero() -> dict[str, int]:
    return {"episodes": 0, "steps": 0, "valid_steps": 0}


def _statistics(tasks: Iterable[IngestTask], spec: DatasetSpec, num_train: int) -> dict[str, Any] | None:
    """statistics.json; None without any valid train step."""
    parts = [np.load(task.train_actions, allow_pickle=False, mmap_mode="r") for task in tasks]
    if not any(map(len, parts)):
        return None
    return action_statistics(parts, spec.action.contract.action_mask(), num_train)


def _place(source: Path, target: Path) -> None:
    """A second name for the finished shard, so that a kill from here on loses no work; across file systems a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        copy_file(source, target)
