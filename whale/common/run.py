"""What a stage sees of whoever runs it: where to write, and whom to tell.

`Run(Path("out"), args)` is a plain folder, for a debugger and a notebook: no proof, no lock, no record. In `dvc repro`
a stage gets the guard's (whale/guard/guarded_run.py), which has the same methods.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from whale.common.json_files import canonical_json, write_json
from whale.common.progress import Progress
from whale.common.stage_args import StageArgs, node_name

T = TypeVar("T")


class Run:
    """`name`: as DVC names the stage; `identity`: names all that decides the result, resume state is kept under it;
    `decided_by`: the same in plain data; `command`: what a person types to start it again."""

    def __init__(
        self, out: Path, args: StageArgs | None = None, *,
        metrics: Path | None = None, work: Path | None = None, stage: str = "stage",
    ):  # fmt: skip
        """`args`: what the stage is called with, so that state in `work` is that of these values alone."""
        self.item = args.item if args else None
        self.stage, self.name = stage, node_name(stage, self.item)
        config = args.deciding_values() if args else {}
        inputs = {name: str(getattr(args, name)) for name in args.inputs()} if args else {}
        self.decided_by: Mapping[str, Any] = {"stage": stage, "item": self.item, "config": config, "inputs": inputs}
        self.identity = hashlib.sha256(canonical_json(self.decided_by).encode()).hexdigest()
        self.command = stage
        self._out, self._metrics_path, self._work = out, metrics, work
        self.notes: dict[str, Any] = {}

    @property
    def out(self) -> Path:
        """The folder to write into."""
        self._out.mkdir(parents=True, exist_ok=True)
        return self._out

    @property
    def work(self) -> Path:
        """A folder for resume state, kept after the run."""
        if self._work is None:
            self._work = Path(tempfile.mkdtemp(prefix="whale-work-"))
        self._work.mkdir(parents=True, exist_ok=True)
        return self._work

    def sampled(self, parts: Sequence[T], prefer: Callable[[T], bool] = lambda part: True) -> list[T]:
        """The parts of the work to do: all of them, but for a check on a sample (`whale accept --check`), which takes
        the first that the stage can do alone, as `prefer` tells."""
        return list(parts)

    def progress(self, total: int, what: str) -> Progress:
        """Rate and remaining time on stderr, from 2 s on."""
        return Progress(total, what, self.name)

    def compute(self) -> AbstractContextManager[None]:
        """`with run.compute():` what is inside is work; the rest of the process' life is framework overhead."""
        return nullcontext()

    def add_compute(self, seconds: float) -> None:
        """Work that another process did for this one, e.g. a training worker."""

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """The stage's metrics file. No timings: equal inputs give equal bytes."""
        if self._metrics_path is not None:
            write_json(self._metrics_path, dict(metrics))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers for MLflow."""

    def log_artifact(self, path: Path) -> None:
        """A file or folder below `out` that MLflow shall name (path and sha256; small pictures are shown)."""

    def keep(self, name: str, payload: bytes) -> None:
        """A file for the run's record, so that questions can be answered when the outputs are long gone."""

    def note(self, **facts: object) -> None:
        """How this run was carried out (workers, threads, steps resumed): for the statement, never for an output."""
        self.notes |= facts

    def add_dataset(self, dataset: str, version: str) -> None:
        """`out` is a dataset that enters the pipeline here; the names are the upstream's."""

    def add_described(self, paths: Iterable[Path]) -> None:
        """Files that an input describes with their sha256, so that reading them is declared by that input."""
