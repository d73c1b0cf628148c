"""Replay of spooled runs into a local MLflow store: an experiment a profile, in it a parent run a `dvc repro`.

Idempotent: a run is found again by its tag `whale.spool_id`, and a file beside the spool says how far it was read.
Checkpoints go in by reference (path and sha256), never as copies; small pictures are copied, so the page shows them.
"""

import fcntl
import getpass
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whale.common.errors import BeyondLimitError
from whale.common.files import sha256_of_file, write_atomically
from whale.common.json_files import remembered
from whale.common.limits import PICTURE_BYTES, SPOOL_BYTES
from whale.runtime.workers.process import environment
from whale.tracking import mlflow_models
from whale.tracking.mlflow_models import MAX_DIGEST, Models, Sources, points
from whale.tracking.mlflow_repro import COMMIT, SUMMARY, Repros
from whale.tracking.mlflow_rows import opened, require_few
from whale.tracking.spool import SPOOL_DIR
from whale.tracking.spooled_run import (
    MAX_METRICS,
    MAX_NAME,
    MAX_PARAMS,
    MAX_TEXT,
    Line,
    SpooledRun,
    batches,
    below_profile,
    lines_of,
    milliseconds,
    whole_lines,
)

STORE, LOCK = "mlflow.db", "replay.lock"
ARTIFACTS_DIR = Path("mlruns")
SPOOL_TAG = "whale.spool_id"
PICTURES = {".png", ".gif", ".svg", ".html", ".jpg"}


@dataclass
class Replayed:
    """How many runs were touched and how many were read to their end before; of all spools, how many lines are torn
    and left out, by the spool's name."""

    runs: int = 0
    unchanged: int = 0
    torn: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Read:
    """How far a spool was read: bytes, whether its run had ended, and how many of its lines were torn."""

    offset: int = 0
    closed: bool = False
    torn: int = 0


def replay_all(root: Path | None = None) -> Replayed:
    """Replay every spool of the project at `root` (default: here) into its sqlite store."""
    root = (root or Path.cwd()).absolute()
    return replay(root / SPOOL_DIR, f"sqlite:///{root / STORE}", root / ARTIFACTS_DIR, root)


def point_at_current(root: Path) -> None:
    """What `artifacts/` holds now, also where it changed without a run, as by `dvc checkout`."""
    from mlflow import MlflowClient

    mlflow_models.point_at_current(MlflowClient(f"sqlite:///{root.absolute() / STORE}"), root)


def page_of(root: Path, profile: str) -> str | None:
    """Where MLflow's page shows the runs of a profile, below its address; None without any.

    MLflow opens in its view of language models unless the address, or the person's last choice, says otherwise.
    """
    if not (root / STORE).is_file():
        return None
    with opened(root / STORE) as rows:
        row = next(rows.of("experiments", ["experiment_id"], name=profile), None)
    return None if row is None else f"#/experiments/{row[0]}?workflowType=machine_learning"


def replay(spool_dir: Path, tracking_uri: str, artifacts_dir: Path, root: Path) -> Replayed:
    """Bring the store up to date with the spools; a second call at once changes nothing and imports nothing.

    artifacts_dir: where pictures are copied to. root: the project, which paths in spools are relative to. One at a
    time: another process that replays is waited for.
    """
    if not spool_dir.is_dir():
        return Replayed()
    with open(spool_dir / LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _replay(spool_dir, tracking_uri, artifacts_dir, root)


def _replay(spool_dir: Path, tracking_uri: str, artifacts_dir: Path, root: Path) -> Replayed:
    result, waiting = Replayed(), []
    for spool in spool_dir.glob("*.jsonl"):
        read = _read_offset(spool)
        if read.offset < spool.stat().st_size or not read.closed:
            payload = bytes_of(spool)
            lines, torn = lines_of(payload[: whole_lines(payload)], spool)
            if lines and lines[0]["kind"] == "start":
                waiting.append((lines[0]["time"], spool, read.offset))
            elif torn:
                result.torn[spool.name] = torn
        else:
            result.unchanged += 1
            result.torn |= {spool.name: read.torn} if read.torn else {}
    if waiting:
        store = _Store(tracking_uri, artifacts_dir, root)
        for _, spool, offset in sorted(waiting):  # a checkpoint comes before what was measured of it
            torn = store.replay(spool, offset)
            result.torn |= {spool.name: torn} if torn else {}
            result.runs += 1
        store.close()
    return result


def bytes_of(spool: Path) -> bytes:
    """All of a spool; BeyondLimitError if it is larger than a run's can be."""
    if (size := spool.stat().st_size) > SPOOL_BYTES:
        raise BeyondLimitError("a run's spool is too large", file=spool, found=f"{size} bytes",
                               expected=f"<= {SPOOL_BYTES} bytes",
                               remedy="move it out of this folder: the other runs are tracked then")  # fmt: skip
    return spool.read_bytes()


class _Store:
    """One client, and the experiments it has seen."""

    def __init__(self, tracking_uri: str, artifacts_dir: Path, root: Path):
        environment.apply()
        from mlflow import MlflowClient

        for name in ("mlflow.store.db.utils", "alembic"):  # the tables of a new store are no news
            logging.getLogger(name).setLevel(logging.WARNING)
        self.client = MlflowClient(tracking_uri)
        require_few(self.client)
        self.artifacts_dir, self.root = artifacts_dir, root
        self._experiments: dict[str, _Experiment] = {}

    def replay(self, spool: Path, offset: int) -> int:
        """Returns how many lines are torn."""
        payload = bytes_of(spool)
        end = whole_lines(payload)
        lines, torn = lines_of(payload[:end], spool)
        new, _ = lines_of(payload[offset:end], spool)
        run = SpooledRun(spool.stem, lines)
        status = self._experiment(run.start["profile"]).log(run, new)
        if status is not None:  # nobody writes to it any more, so a torn last line is never completed
            torn, end = torn + (end < len(payload)), len(payload)
        row = {"offset": end, "closed": status is not None, "torn": torn}
        write_atomically(_offset_path(spool), json.dumps(row).encode())
        return torn

    def close(self) -> None:
        """What depends on all runs together."""
        for experiment in self._experiments.values():
            experiment.repros.close()
        mlflow_models.point_at_current(self.client, self.root)

    def _experiment(self, profile: str) -> "_Experiment":
        if profile not in self._experiments:
            found = self.client.get_experiment_by_name(profile)
            location = (self.artifacts_dir / profile).absolute().as_uri()
            tags = {"mlflow.experimentKind": "custom_model_development"}  # else it opens as one of language models
            tags["mlflow.note.content"] = f"Profile `{profile}`: a run for each `dvc repro`, its stages below it."
            experiment = found.experiment_id if found else self.client.create_experiment(profile, location, tags)
            self._experiments[profile] = _Experiment(self.client, experiment, self.root)
        return self._experiments[profile]


class _Experiment:
    """The runs of one profile."""

    def __init__(self, client: Any, id: str, root: Path):
        self.client, self.id, self.root = client, id, root
        self.models, self.repros = Models(client, id, root), Repros(client, id)

    def log(self, run: SpooledRun, new: list[Line]) -> str | None:
        """Bring one run up to date; returns its status, None while it runs."""
        parent = self.repros.parent_of(run)
        run_id = self._find(run) or self._create(run, parent)
        self._log(run, run_id, new, parent)
        if run.status is not None:
            self._close(run, run_id)
            self.repros.add(run)
        return run.status

    def _find(self, run: SpooledRun) -> str | None:
        found = self.client.search_runs([self.id], f"tags.`{SPOOL_TAG}` = '{run.id}'", max_results=1)
        return found[0].info.run_id if found else None

    def _create(self, run: SpooledRun, parent: str | None) -> str:
        stage = run.start["stage"]
        tags = {SPOOL_TAG: run.id, "whale.profile": run.start["profile"], "whale.stage": stage, **run.start["tags"]}
        tags |= {"mlflow.source.name": f"pipelines/{stage}.py", "mlflow.source.type": "JOB"}
        tags |= {"mlflow.user": getpass.getuser(), "mlflow.note.content": _description(run)}
        if parent:
            tags["mlflow.parentRunId"] = parent
        return self.client.create_run(self.id, milliseconds(run.start), tags, run.name).info.run_id

    def _log(self, run: SpooledRun, run_id: str, new: list[Line], parent: str | None) -> None:
        from mlflow.entities import Param, RunTag

        artifacts = [line for line in new if line["kind"] == "artifact"]
        params = {name: text for line in new if line["kind"] == "params" for name, text in line["params"].items()}
        for batch in batches([Param(name[:MAX_NAME], text[:MAX_TEXT]) for name, text in params.items()], MAX_PARAMS):
            self.client.log_batch(run_id, params=batch)
        self.models.log(run, run_id)
        self._log_inputs(run, run_id)
        for batch in batches(self._points(run, run_id, new), MAX_METRICS):
            self.client.log_batch(run_id, metrics=batch, synchronous=True)
        tags = {f"whale.artifact.{line['path']}"[:MAX_NAME]: line["sha256"] or "not hashed" for line in artifacts}
        for batch in batches([RunTag(name, text) for name, text in tags.items()], MAX_PARAMS):
            self.client.log_batch(run_id, tags=batch)
        for line in artifacts:
            for each in {run_id, parent if parent and run.start["stage"] == SUMMARY else run_id}:
                self._show(each, line["path"], line["sha256"])

    def _points(self, run: SpooledRun, run_id: str, new: list[Line]) -> list[Any]:
        """The new numbers; of a run that made a checkpoint again the last of each curve, as the checkpoint's own."""
        sources = Sources(run, run_id, self.models)
        if self.models.made_by(run) is None:
            return list(points(new, sources))
        return [*points(new), *{point.key: point for point in points(run.lines, sources)}.values()]

    def _show(self, run_id: str, name: str, sha256: str | None) -> None:
        """Copy a small picture into the run, if it still is the one that the run made; else it is a reference.

        A stage of an experiment ran in a copy of the project, which is where it brings its own run up to date.
        """
        for path in (self.root / name, Path(name)):
            is_small = path.suffix in PICTURES and path.is_file() and path.stat().st_size <= PICTURE_BYTES
            if is_small and sha256_of_file(path) == sha256:
                self.client.log_artifact(run_id, str(path), path.parent.name)
                return

    def _log_inputs(self, run: SpooledRun, run_id: str) -> None:
        """Data sets and checkpoints that it read, by the sha256 of their manifests."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

        models = self.models.read_by(run)
        logged = self.client.get_run(run_id).inputs
        known = {each.dataset.digest for each in logged.dataset_inputs}
        known |= {each.model_id for each in logged.model_inputs}
        data = []
        for path, (digest, argument) in run.holders().items():
            name = below_profile(path, run.start["profile"])
            if name not in models and digest[:MAX_DIGEST] not in known:
                source = json.dumps({"path": path, "sha256": digest})
                dataset = Dataset(name, digest[:MAX_DIGEST], "whale", source)
                data.append(DatasetInput(dataset, [InputTag("mlflow.data.context", argument)]))
        read = [LoggedModelInput(model_id) for model_id in sorted(set(models.values()) - known)]
        if data or read:
            self.client.log_inputs(run_id, data, read)

    def _close(self, run: SpooledRun, run_id: str) -> None:
        """End the run as its spool says; a process that is gone without a last line was killed."""
        last = run.lines[-1]
        if last["kind"] == "end":
            for name, text in {COMMIT: run.commit, **last["tags"]}.items():
                self.client.set_tag(run_id, name, text)
        self.client.set_terminated(run_id, run.status, end_time=milliseconds(last))


def _description(run: SpooledRun) -> str:
    """What the stage is for, as dvc.yaml said then, and the command."""
    return "\n\n".join(filter(None, [run.start.get("desc", ""), f"`{run.start.get('command', '')}`"]))


def _offset_path(spool: Path) -> Path:
    return spool.with_suffix(".offset.json")


def _read_offset(spool: Path) -> _Read:
    row = remembered(_offset_path(spool))
    named = {name: row[name] for name in ("offset", "closed", "torn") if name in row}
    return _Read(**named) if len(named) == 3 else _Read()
