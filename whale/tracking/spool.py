"""Tracking never stands in the way of computing: a stage appends JSON lines, MLflow reads them later.

One file per run, `work/mlflow_spool/<run id>.jsonl`. A line is {"kind", "time", ...}; `mlflow_store.replay` is
idempotent, so a torn last line or a crash costs nothing but that line.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsFloat

from whale.common.json_files import flatten

SPOOL_DIR = Path("work/mlflow_spool")


class TrackingSpool:
    """Appends to one file and never raises: a full disk costs the log, with one warning and a count, not the run."""

    def __init__(self, path: Path):
        self.path = path
        self.num_lost = 0
        self._file = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a", encoding="ascii")  # noqa: SIM115 - lives as long as the stage
        except OSError as error:
            self._lose(error)

    def start(self, stage: str, item: str | None, profile: str, tags: Mapping[str, str], **about: str) -> None:
        """First line: which run this is. `about`: its `command`, its `desc` of dvc.yaml, and of DVC `dvc` (one name for
        all stages of one `dvc repro`) and `experiment`."""
        self._append("start", stage=stage, item=item, profile=profile, pid=os.getpid(), tags=dict(tags), **about)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Nested mappings become dotted names."""
        self._append("params", params={name: str(value) for name, value in flatten(params).items()})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers at `step` (0 if the run has no steps)."""
        numbers = {name: _as_number(value) for name, value in flatten(metrics).items()}
        kept = {name: repr(value) for name, value in numbers.items() if value is not None}
        self._append("metrics", step=step, metrics=kept)

    def log_input(self, name: str, digest: str, holders: Mapping[str, str]) -> None:
        """What the run reads, with OUR digest; `holders`: path -> sha256 of each manifest or file in it."""
        self._append("input", name=name, digest=digest, holders=dict(holders))

    def log_artifact(self, path: Path, sha256: str | None = None) -> None:
        """A file or folder by reference; small pictures (limits.PICTURE_BYTES) are copied at the replay."""
        self._append("artifact", path=str(path), sha256=sha256)

    def log_model(self, path: Path, manifest_sha256: str, weights_sha256: str) -> None:
        """A checkpoint's folder by reference: its MANIFEST.json names every file."""
        self._append("model", path=str(path), sha256=manifest_sha256, weights_sha256=weights_sha256)

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Last line: FINISHED, FAILED or KILLED."""
        self._append("end", status=status, tags=dict(tags or {}))
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, kind: str, **values: object) -> None:
        if self._file is None:
            self.num_lost += 1
            return
        try:
            self._file.write(json.dumps({"kind": kind, "time": time.time(), **values}) + "\n")
            self._file.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self.num_lost += 1
        if self.num_lost == 1:
            print(f"warning: tracking is lost, computing goes on: {self.path}: {error}", file=sys.stderr)


def _as_number(value: object) -> float | None:
    """Also numpy and torch scalars; None for a text."""
    return float(value) if isinstance(value, SupportsFloat) else None
