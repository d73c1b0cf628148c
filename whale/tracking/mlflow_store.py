"""Replay of spooled runs into a local MLflow store: experiments per stage, params, curves, inputs, artifacts.

Idempotent: a run is found again by its tag `whale.spool_id`, and a file beside the spool says how far it was read.
Checkpoints go in by reference (path and sha256), never as copies; small pictures are copied, so the page shows them.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.files import is_alive, write_atomically
from whale.common.json_files import remembered
from whale.common.stage_args import node_name
from whale.runtime.workers import environment
from whale.tracking.spool import SPOOL_DIR

STORE = "mlflow.db"
ARTIFACTS_DIR = Path("mlruns")
SPOOL_TAG = "whale.spool_id"
PICTURES = {".png", ".gif", ".svg", ".html", ".jpg"}
MAX_PICTURE_BYTES = 10 * 2**20
MAX_PARAMS, MAX_METRICS = 100, 1000  # per log_batch, limits of MLflow


@dataclass
class Replayed:
    """How many runs were touched and how many were read to their end before."""

    runs: int = 0
    unchanged: int = 0


def replay_all(root: Path | None = None) -> Replayed:
    """Replay every spool of the project at `root` (default: here) into its sqlite store."""
    root = (root or Path.cwd()).absolute()
    return replay(root / SPOOL_DIR, f"sqlite:///{root / STORE}", root / ARTIFACTS_DIR)


def replay(spool_dir: Path, tracking_uri: str, artifacts_dir: Path) -> Replayed:
    """Bring the store up to date with the spools; a second call at once changes nothing and imports nothing."""
    result = Replayed()
    waiting = []
    for spool in sorted(spool_dir.glob("*.jsonl")):
        offset, was_closed = _read_offset(spool)
        if offset < spool.stat().st_size or not was_closed:
            waiting.append((spool, offset))
        else:
            result.unchanged += 1
    if waiting:
        store = _Store(tracking_uri, artifacts_dir)
        for spool, offset in waiting:
            store.replay(spool, offset)
            result.runs += 1
    return result


class _Store:
    """One client, and the experiments it has seen."""

    def __init__(self, tracking_uri: str, artifacts_dir: Path):
        environment.apply()
        from mlflow import MlflowClient

        for name in ("mlflow.store.db.utils", "alembic"):  # the tables of a new store are no news
            logging.getLogger(name).setLevel(logging.WARNING)
        self.client = MlflowClient(tracking_uri)
        self.artifacts_dir = artifacts_dir
        self._experiments: dict[str, str] = {}

    def replay(self, spool: Path, offset: int) -> None:
        lines, end = _read_lines(spool, 0)
        if not lines or lines[0]["kind"] != "start":
            return
        run_id = self._find_or_create(spool.stem, lines[0])
        new, _ = _read_lines(spool, offset)
        self._log(run_id, new)
        status = self._close(run_id, lines)
        if status is not None:  # nobody writes to it any more, so a torn last line is never completed
            end = spool.stat().st_size
        write_atomically(_offset_path(spool), json.dumps({"offset": end, "closed": status is not None}).encode())

    def _find_or_create(self, spool_id: str, start: dict[str, Any]) -> str:
        experiment = self._experiment(start["stage"])
        found = self.client.search_runs([experiment], f"tags.`{SPOOL_TAG}` = '{spool_id}'", max_results=1)
        if found:
            return found[0].info.run_id
        tags = {SPOOL_TAG: spool_id, "whale.profile": start["profile"], **start["tags"]}
        milliseconds = int(start["time"] * 1000)
        return self.client.create_run(
            experiment, start_time=milliseconds, tags=tags, run_name=node_name(start["stage"], start["item"])
        ).info.run_id

    def _experiment(self, stage: str) -> str:
        if stage not in self._experiments:
            found = self.client.get_experiment_by_name(stage)
            location = (self.artifacts_dir / stage).absolute().as_uri()
            self._experiments[stage] = (
                found.experiment_id if found else self.client.create_experiment(stage, artifact_location=location)
            )
        return self._experiments[stage]

    def _log(self, run_id: str, lines: list[dict[str, Any]]) -> None:
        from mlflow.entities import Param, RunTag

        params, tags = {}, {}
        for line in lines:
            if line["kind"] == "params":
                params.update(line["params"])
            elif line["kind"] == "artifact":
                tags[f"whale.artifact.{line['path']}"[:250]] = line["sha256"] or "not hashed"
                self._show(run_id, Path(line["path"]))
        for batch in _batches([Param(name[:250], text[:6000]) for name, text in params.items()], MAX_PARAMS):
            self.client.log_batch(run_id, params=batch)
        for batch in _batches(_metrics(lines), MAX_METRICS):
            self.client.log_batch(run_id, metrics=batch, synchronous=True)
        for tag_batch in _batches([RunTag(name, text) for name, text in tags.items()], MAX_PARAMS):
            self.client.log_batch(run_id, tags=tag_batch)
        if inputs := _dataset_inputs(lines):
            self.client.log_inputs(run_id, inputs)

    def _show(self, run_id: str, path: Path) -> None:
        """Copy a small picture into the run; everything else is a reference."""
        if path.suffix in PICTURES and path.is_file() and path.stat().st_size <= MAX_PICTURE_BYTES:
            self.client.log_artifact(run_id, str(path), path.parent.name)

    def _close(self, run_id: str, lines: list[dict[str, Any]]) -> str | None:
        """End the run as its spool says; a process that is gone without a last line was killed."""
        last = lines[-1]
        if last["kind"] == "end":
            for name, text in last["tags"].items():
                self.client.set_tag(run_id, name, text)
        elif is_alive(lines[0].get("pid", 0)):
            return None
        status = last["status"] if last["kind"] == "end" else "KILLED"
        self.client.set_terminated(run_id, status, end_time=int(last["time"] * 1000))
        return status


def _metrics(lines: list[dict[str, Any]]) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(name, float(text), int(line["time"] * 1000), line["step"] or 0)
        for line in lines
        if line["kind"] == "metrics"
        for name, text in line["metrics"].items()
    ]


def _dataset_inputs(lines: list[dict[str, Any]]) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = []
    for line in (each for each in lines if each["kind"] == "input"):
        source = json.dumps({"sha256": line["digest"]})
        dataset = Dataset(line["name"], line["digest"][:36], "whale", source)
        found.append(DatasetInput(dataset, [InputTag("mlflow.data.context", line["context"])]))
    return found


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _read_lines(spool: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Whole lines from `offset`, and where they end; a torn last line is left for the next time."""
    payload = spool.read_bytes()[offset:]
    whole = payload[: payload.rfind(b"\n") + 1]
    lines = []
    for text in whole.splitlines():
        with suppress(ValueError):
            lines.append(json.loads(text))
    return lines, offset + len(whole)


def _offset_path(spool: Path) -> Path:
    return spool.with_suffix(".offset.json")


def _read_offset(spool: Path) -> tuple[int, bool]:
    row = remembered(_offset_path(spool))
    return (row["offset"], row["closed"]) if row.keys() >= {"offset", "closed"} else (0, False)
