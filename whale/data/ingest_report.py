"""The end of an ingest: fragments of all source files -> one sealed dataset folder, or a refusal with a report."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whale.data.episode import ACTION_NAMES, BAD_REASONS
from whale.data.ingest import IngestTask, read_fragment
from whale.data.quality.gate import Evidence, enforce, judge
from whale.data.spec import DatasetSpec
from whale.data.statistics import action_statistics
from whale.data.storage.files import write_json
from whale.data.storage.images import ENCODER
from whale.data.storage.manifest import (
    FORMAT_VERSION,
    Manifest,
    episode_schema,
    file_entry,
    quarantine_schema,
    write_table,
)
from whale.errors import BadDataError

SIDE_FILES = ("contract.json", "episodes.parquet", "quality.json", "quarantine.parquet", "statistics.json")


def finish(tasks: Sequence[IngestTask], work: Path, out: Path) -> dict[str, Any]:
    """Move the shards from `work` to `out` and write everything beside them, manifest.json last.

    Returns the stage's metrics. Raises BadDataError when more than `max_bad` records are broken; the report,
    <work>/quarantine.parquet, has been written by then.
    """
    spec, config = tasks[0].spec, tasks[0].config
    fragments = [_require_fragment(task) for task in tasks]
    rows = sorted((row for fragment in fragments for row in fragment["rows"]), key=lambda row: row["key"])
    dropped = [row | {"steps": row["steps_in"]} for row in rows if not row["kept"]]
    write_table(work / "quarantine.parquet", dropped, quarantine_schema())
    _require_few_bad(dropped, config.max_bad, work / "quarantine.parquet", len(rows))
    statistics = _statistics(tasks, spec, rows)
    report = judge(Evidence.merge(fragment["quality"] for fragment in fragments), statistics, rows, spec)
    write_json(work / "quality.json", report)
    enforce(report, config.quality, work / "quality.json")
    counts = _count(rows, spec.source.splits)
    _require_law(fragments, counts)
    if statistics is None:
        raise BadDataError("no valid train step: there is nothing to compute statistics of", place=spec.name)
    out.mkdir(parents=True, exist_ok=True)
    shards = [shard for fragment in fragments for shard in fragment["shards"]]
    for shard in shards:
        _move(work / shard["file"], out / shard["file"])
    write_table(out / "episodes.parquet", rows, episode_schema(config.cameras))
    for name in ("quarantine.parquet", "quality.json"):
        shutil.copyfile(work / name, out / name)
    write_json(out / "statistics.json", statistics)
    write_json(out / "contract.json", contract(spec, config.resolution))
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": spec.name,
        "spec_digest": spec.ingest_digest(),
        "control_hz": spec.robot.control_hz,
        "images": _image_format(tasks[0]),
        "sources": [fragment["source"] for fragment in fragments],
        "shards": sorted(shards, key=lambda shard: shard["file"]),
        "files": {name: file_entry(out / name).model_dump() for name in SIDE_FILES},
        **counts,
    }
    write_json(out / "manifest.json", Manifest.parse(manifest, file=out / "manifest.json").model_dump(mode="json"))
    outcomes = Counter(verdict["outcome"] for verdict in report["verdicts"])
    return {"name": spec.name, **counts, "quality": dict(sorted(outcomes.items()))}


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


def _require_few_bad(dropped: Sequence[Mapping[str, Any]], max_bad: int, report: Path, total: int) -> None:
    bad = [row for row in dropped if row["reason"] in BAD_REASONS]
    if len(bad) > max_bad:
        lines = [f"{row['source_file']} record {row['record_index']}: {row['reason']}: {row['detail']}" for row in bad]
        raise BadDataError(
            f"{len(bad)} of {total} episodes are broken, max_bad is {max_bad}", file=bad[0]["source_file"],
            place=f"record {bad[0]['record_index']}, byte {bad[0]['byte_offset']}",
            found="\n            ".join(lines[:5]), expected=f"at most {max_bad}",
            remedy=f"see {report}; repair the source, or raise ingest.max_bad",
        )  # fmt: skip


def _count(rows: Iterable[Mapping[str, Any]], splits: Iterable[str]) -> dict[str, Any]:
    """`read`, `kept` per split and `dropped` per reason; steps as recorded for read and dropped, as kept for kept."""

    def zero() -> dict[str, int]:
        return {"episodes": 0, "steps": 0, "valid_steps": 0}

    read, kept = zero(), {split: zero() for split in sorted(splits)}
    dropped: dict[str, dict[str, int]] = {}
    for row in rows:
        read = {"episodes": read["episodes"] + 1, "steps": read["steps"] + row["steps_in"], "valid_steps": 0}
        count = kept[row["split"]] if row["kept"] else dropped.setdefault(row["reason"], zero())
        count["episodes"] += 1
        count["steps"] += row["steps_out"] if row["kept"] else row["steps_in"]
        count["valid_steps"] += row["valid_steps"]
    if not any(count["episodes"] for count in kept.values()):
        raise BadDataError("no episode is left", found={reason: c["episodes"] for reason, c in dropped.items()})
    return {"read": read, "kept": kept, "dropped": dict(sorted(dropped.items()))}


def _require_law(fragments: Iterable[Mapping[str, Any]], counts: Mapping[str, Any]) -> None:
    """read = kept + dropped, and what was kept is what lies in the shards."""
    kept = sum(count["episodes"] for count in counts["kept"].values())
    dropped = sum(count["episodes"] for count in counts["dropped"].values())
    stored = sum(shard["episodes"] for fragment in fragments for shard in fragment["shards"])
    assert counts["read"]["episodes"] == kept + dropped, (counts, kept, dropped)
    assert kept == stored, (kept, stored)


def _statistics(
    tasks: Iterable[IngestTask], spec: DatasetSpec, rows: Iterable[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """statistics.json; None without any valid train step."""
    parts = [np.load(task.train_actions, allow_pickle=False) for task in tasks]
    if not any(map(len, parts)):
        return None
    num_train = sum(row["kept"] and row["split"] == "train" for row in rows)
    return action_statistics(parts, spec.action.contract.action_mask(), num_train)


def _image_format(task: IngestTask) -> dict[str, Any]:
    config = task.config
    return {
        "resolution": config.resolution, "mode": "stretch", "jpeg_quality": config.jpeg_quality, "encoder": ENCODER,
        "roles": config.cameras,
    }  # fmt: skip


def _move(source: Path, target: Path) -> None:
    """Rename; across file systems copy, and leave the original."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError:
        shutil.copyfile(source, target)
