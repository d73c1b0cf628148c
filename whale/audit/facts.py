"""What runs left behind, read back: datasets, receipts, episode tables, checkpoints. Byproducts first, outputs second,
so that answers survive the deletion of the outputs."""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from whale.audit.run_graph import RunGraph, StageRun
from whale.common import json_files
from whale.common.boundary import reading
from whale.common.errors import BadDataError, MissingInputError
from whale.common.files import WEIGHTS
from whale.common.json_files import parse_object
from whale.common.limits import HEADER_BYTES, READING_BYTES


@dataclass(frozen=True)
class Dataset:
    """A dataset that entered the pipeline with `run`."""

    run: StageRun
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        return self.summary["name"]

    @property
    def id(self) -> str:
        return self.summary["id"]

    @property
    def digest(self) -> str:
        return self.summary["upstream"]["sha256"]

    def episodes(self) -> pa.Table:
        """One row per source episode (whale.data.ingest.episode_table.COLUMNS), sorted by key."""
        payload = self.run.byproduct("episodes.parquet")
        if payload is None:
            path = self.run.byproducts.get("episodes.parquet", ("episodes.parquet", ""))[0]
            raise MissingInputError("the episode table is gone", file=path, remedy="take lineage/runs from git")
        with reading("episodes.parquet", "not a readable parquet file", place=self.name, memory=READING_BYTES):
            return pq.read_table(io.BytesIO(payload))

    def key_of(self, text: str, digests: Iterable[str]) -> str | None:
        """The key of an episode that `text` names: the key itself, or 8 digits or more of one of its `digests`."""
        table = self.episodes()
        match = pc.equal(table["key"], text)
        for column in digests if len(text) >= 8 else ():
            match = pc.or_kleene(match, pc.starts_with(table[column], text))
        found = table.filter(pc.fill_null(match, False))
        return found["key"][0].as_py() if len(found) else None


def datasets_of(run: StageRun, graph: RunGraph, beside: Iterable[StageRun] = ()) -> list[Dataset]:
    """Every dataset above `run`, or above one of those `beside` it, by name."""
    above = {each.run_id: each for start in (run, *beside) for each in graph.ancestors(start)}
    found = [Dataset(each, summary) for each in above.values() if (summary := each.dataset())]
    return sorted(found, key=lambda dataset: (dataset.name, dataset.digest))


def trainings_of(run: StageRun, graph: RunGraph) -> list[StageRun]:
    """Runs at or above `run` that trained a model, oldest first."""
    return [each for each in graph.ancestors(run) if is_training(each)]


def as_row(run: StageRun) -> dict[str, Any]:
    """A run and the first thing that it made."""
    return {"stage": run.name, "output": run.outputs[0], "sha256": run.subjects[run.outputs[0]], "run": run.run_id}


def is_training(run: StageRun) -> bool:
    return run.stage.startswith(("train_", "finetune_")) and any(Path(name).name == WEIGHTS for name in run.subjects)


def is_evaluation(run: StageRun) -> bool:
    return run.stage.startswith("evaluate_")


def receipt_of(run: StageRun) -> dict[str, Any] | None:
    """What a training drew, per dataset; None where neither record nor output is left."""
    return read_json(run, "receipt.json")


def read_json(run: StageRun, name: str) -> Any:
    """The byproduct `name` of `run`, else the file of that name in its output; None where neither is there."""
    found = run.told(name)
    if found is None:
        paths = [Path(out).parent / name for out in run.outputs]
        found = next((json_files.read_json(path) for path in paths if path.is_file()), None)
    return found


def weights_of(run: StageRun) -> str | None:
    """sha256 of the weights that a training published."""
    return next((digest for name, digest in run.subjects.items() if Path(name).name == WEIGHTS), None)


def tensor_sha256(path: Path) -> str:
    """sha256 over (name, dtype, shape, bytes) of a safetensors file's tensors, sorted by name: equal weights have equal
    digests, whatever the order or the metadata of the file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > HEADER_BYTES:
            raise BadDataError("not a safetensors file", file=path, found=f"a header of {size} bytes",
                               expected=f"<= {HEADER_BYTES}")  # fmt: skip
        header = parse_object(file.read(size), path)
        for name, row in sorted(header.items()):
            if name != "__metadata__":
                start, stop = row["data_offsets"]
                file.seek(8 + size + start)
                digest.update(f"{name}|{row['dtype']}|{tuple(row['shape'])}\n".encode())
                digest.update(file.read(stop - start))
    return digest.hexdigest()
