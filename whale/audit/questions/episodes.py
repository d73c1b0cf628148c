"""Which episodes a checkpoint could be trained on, which were dropped and why (Q2)."""

from typing import Any

import pyarrow.compute as pc

from whale.audit.facts import datasets_of
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.errors import MismatchError

SHOWN = (
    *("key", "split", "kept", "reason", "steps_in", "steps_out", "source_file", "record_index"),
    *("payload_sha256", "content_sha256", "shard"),
)


def episodes(run: StageRun, graph: RunGraph, dropped_only: bool) -> dict[str, Any]:
    """{"datasets": counts, "episodes": rows}. MismatchError when a table does not add up to its dataset's manifest."""
    counts, rows = [], []
    for dataset in datasets_of(run, graph):
        table = dataset.episodes()
        kept = int(pc.sum(table["kept"]).as_py() or 0)
        reasons = pc.value_counts(table.filter(pc.invert(table["kept"]))["reason"]).to_pylist()
        found = {row["values"]: row["counts"] for row in reasons}
        expected = {reason: part["episodes"] for reason, part in dataset.summary["dropped"].items()}
        signed = sum(part["episodes"] for part in dataset.summary["kept"].values())
        if (kept, found) != (signed, expected):
            raise MismatchError("the episode table does not add up to the manifest", place=dataset.name,
                                found=f"{kept} kept, {found}", expected=f"{signed} kept, {expected}")  # fmt: skip
        counts.append({"dataset": dataset.id, "read": len(table), "kept": kept, "dropped": found})
        chosen = table.filter(pc.invert(table["kept"])) if dropped_only else table
        rows += chosen.select(list(SHOWN)).to_pylist()
    return {"datasets": counts, "episodes": rows}
