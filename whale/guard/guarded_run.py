"""A stage's run inside its guard: what the stage sees (whale/common/run.py), and what is kept for the record."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from whale.common.json_files import pretty_json
from whale.common.run import Run
from whale.common.stage_args import node_name
from whale.guard.attempts import Attempts
from whale.guard.beforehand import Beforehand
from whale.guard.experiment import home
from whale.guard.process_clock import ProcessClock
from whale.lineage.file_digests import FileDigests
from whale.lineage.inputs import ProvenInput
from whale.lineage.statement import Derivation
from whale.lineage.summary import Summary, summarize_dataset
from whale.tracking.spool import SPOOL_DIR, TrackingSpool

SAMPLE = "WHALE_SAMPLE"  # `whale accept --check`: a small part of the work

T = TypeVar("T")


@dataclass(frozen=True)
class Derived:
    """The derivation, and what it was derived from."""

    derivation: Derivation
    proven: dict[str, ProvenInput]
    code_root: Path
    code: dict[str, dict[str, object]]  # of the stage's import closure, as `code_files` tells
    builder: dict[str, dict[str, object]]  # of the guard's own


class GuardedRun(Run):
    """A stage's run inside its guard, with what the guard keeps for the record; methods without a word: see `Run`."""

    def __init__(
        self, name: str, args: argparse.Namespace, derived: Derived, digests: FileDigests, clock: ProcessClock
    ):
        derivation = derived.derivation
        self.stage, self.item = name, derivation.item
        self.name = node_name(name, self.item)
        self.derivation, self.identity = derivation, derivation.digest()
        self.decided_by, self.command = vars(derivation), shlex.join(["python", *command()])
        self.inputs = derivation.inputs  # name -> sha256
        self.proven, self.code_root = derived.proven, derived.code_root
        self.code, self.builder = derived.code, derived.builder
        self.beforehand = Beforehand(derived.code_root, derived.code, digests)
        self.attempts = Attempts(self.name, self.identity)
        self.kept: dict[str, bytes] = {}
        self.notes: dict[str, Any] = {}
        self.datasets: list[Summary] = []
        self.described: list[Path] = []
        self.final_out: Path | None = getattr(args, "out", None)
        self.profile = _profile_of(self.final_out or getattr(args, "metrics", None))
        self.clock = clock
        self.started = datetime.now(UTC)
        spool_id = f"{self.name}-{self.identity[:16]}-{time.time_ns():x}"
        self.tracking = TrackingSpool(home() / SPOOL_DIR / f"{spool_id}.jsonl")
        self.temporary_out: Path | None = None
        self.metrics: bytes | None = None
        self.artifacts: list[Path] = []
        self.digests = digests

    @property
    def out(self) -> Path:
        """A fresh folder beside the final one; it gets the final name when the body ends well."""
        if self.temporary_out is None:
            raise RuntimeError(f"{self.name} has no --out")
        return self.temporary_out

    @property
    def work(self) -> Path:
        """Resume state of this derivation (inputs, params and code equal), kept after the run."""
        family = Path("work") / self.profile / self.name
        directory = family / self.identity[:16]
        if not directory.exists():
            others = [path.name for path in sorted(family.glob("*")) if path.is_dir()]
            if others:
                where = f"{family}/{{{','.join(others)}}}" if others[1:] else family / others[0]
                print(
                    f"{self.name}: starting from the beginning; an older state with other settings is in {where}",
                    file=sys.stderr,
                )
            directory.mkdir(parents=True)
        return directory

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """The stage's metrics file, written when the body ends well. No timings: equal inputs give equal bytes."""
        self.metrics = pretty_json(dict(metrics))
        self.tracking.log_metrics(metrics)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.tracking.log_metrics(metrics, step)

    def log_artifact(self, path: Path) -> None:
        self.artifacts.append(path)

    def keep(self, name: str, payload: bytes) -> None:
        self.kept[name] = payload

    def add_dataset(self, dataset: str, version: str) -> None:
        """lineage.json of all that is made from `out` will name it."""
        self.datasets.append(summarize_dataset(self.out, dataset, version))

    def add_described(self, paths: Iterable[Path]) -> None:
        self.described += paths

    def sampled(self, parts: Sequence[T], prefer: Callable[[T], bool] = lambda part: True) -> list[T]:
        """Where WHALE_SAMPLE is set the first of the preferred parts alone; the first of all if none is."""
        return sorted(parts, key=lambda part: not prefer(part))[:1] if os.environ.get(SAMPLE) else list(parts)

    def compute(self) -> AbstractContextManager[None]:
        return self.clock.compute()

    def add_compute(self, seconds: float) -> None:
        self.clock.add_compute(seconds)


def command() -> list[str]:
    """As dvc.yaml says it, without this machine's path of the interpreter."""
    module = getattr(sys.modules["__main__"].__spec__, "name", None)
    return ["-m", module, *sys.argv[1:]] if module else list(sys.argv)


def _profile_of(path: Path | None) -> str:
    """`artifacts/<profile>/...` -> the profile."""
    parts = path.parts if path else ()
    place = parts.index("artifacts") + 1 if "artifacts" in parts else len(parts)
    return parts[place] if place < len(parts) else "default"
