"""The guard around each stage: proven inputs, one writer, whole outputs, a statement, an end with DVC.

    with stage("pretokenize", args, {"pretokenize": config, "segments": segments}) as run:
        ...write into run.out...

Every path of `args` is an input, except `out` (a folder, published by rename) and `metrics` (a JSON file). Frameworks
are imported inside functions, never at the top of a module, so that the switches are set first and short stages stay
short. Errors pass through; as a process (`python -m pipelines.x`) they end in one message and an exit code.
"""

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whale.config import Config
from whale.errors import TaintedError
from whale.files import write_atomically
from whale.lineage.closure import closure_digest, code_files, import_closure
from whale.lineage.file_digests import FileDigests
from whale.lineage.import_cache import ImportCache
from whale.lineage.inputs import ProvenInput, prove_input
from whale.lineage.seal import MANIFEST_NAME
from whale.lineage.statement import Derivation, pretty_json, write_json
from whale.lineage.summary import LINEAGE_NAME, Summary, read_summary, summarize
from whale.lineage.taint import kept_taints, taints_of_inputs
from whale.runtime.guard import environment, failure, lock, opened_files, parent_watch
from whale.runtime.guard.attempts import Attempts
from whale.runtime.guard.beforehand import Beforehand
from whale.runtime.guard.leftovers import clear_after_the_dead
from whale.runtime.guard.process_clock import ProcessClock
from whale.runtime.guard.progress import Progress
from whale.runtime.guard.publish import open_temporary, publish, remove_leftovers
from whale.runtime.guard.run_record import write_run_record, write_timings
from whale.runtime.guard.tracking_spool import SPOOL_DIR, TrackingSpool

OUTPUTS = ("out", "metrics")
NOT_PATHS = ("item",)
ALLOW_TAINTED = "WHALE_ALLOW_TAINTED"

if getattr(sys.modules["__main__"].__spec__, "name", "").startswith("pipelines."):
    failure.install()  # an error before the guard (a wrong key in params.yaml) ends like one inside it
    opened_files.install()


class Run:
    """What a stage sees of its guard."""

    def __init__(
        self, name: str, args: argparse.Namespace, derived: "Derived", digests: FileDigests, clock: ProcessClock
    ):
        derivation = derived.derivation
        self.name = name if derivation.item is None else f"{name}@{derivation.item}"
        self.item, self.derivation, self.digest = derivation.item, derivation, derivation.digest()
        self.inputs = derivation.inputs  # name -> sha256
        self.proven, self.code_root, self.code = derived.proven, derived.code_root, derived.code
        self.beforehand = Beforehand(derived.code_root, derived.code, digests)
        self.attempts = Attempts(self.name, self.digest)
        self.kept: dict[str, bytes] = {}
        self.notes: dict[str, Any] = {}
        self.datasets: list[Summary] = []
        self.described: list[Path] = []
        self.final_out: Path | None = getattr(args, "out", None)
        self.profile = _profile_of(self.final_out or getattr(args, "metrics", None))
        self.clock = clock
        self.started = datetime.now(UTC)
        spool_id = f"{self.name}-{self.digest[:16]}-{time.time_ns():x}"
        self.tracking = TrackingSpool(SPOOL_DIR / f"{spool_id}.jsonl")
        self._out: Path | None = None
        self._metrics: bytes | None = None
        self._artifacts: list[Path] = []
        self._digests = digests

    @property
    def out(self) -> Path:
        """A fresh folder beside the final one; it gets the final name when the body ends well."""
        if self._out is None:
            raise RuntimeError(f"{self.name} has no --out")
        return self._out

    @property
    def work(self) -> Path:
        """Resume state of this derivation (inputs, params and code equal); made on first use, kept after the run."""
        family = Path("work") / self.profile / self.name
        directory = family / self.digest[:16]
        if not directory.exists():
            others = [path.name for path in sorted(family.glob("*")) if path.is_dir()]
            if others:
                where = f"{family}/{{{','.join(others)}}}" if others[1:] else family / others[0]
                print(f"{self.name}: starts afresh; state of other settings lies in {where}", file=sys.stderr)
            directory.mkdir(parents=True)
        return directory

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """The stage's metrics file, written when the body ends well. No timings: equal inputs give equal bytes."""
        self._metrics = pretty_json(dict(metrics))
        self.tracking.log_metrics(metrics)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers for MLflow."""
        self.tracking.log_metrics(metrics, step)

    def log_params(self, params: Mapping[str, object]) -> None:
        """More params than those of the config, which are logged anyway."""
        self.tracking.log_params(params)

    def log_input(self, name: str, digest: str, context: str) -> None:
        """A data set with its digest; the arguments' inputs are logged anyway."""
        self.tracking.log_input(name, digest, context)

    def log_artifact(self, path: Path) -> None:
        """A file or folder below `out` that MLflow shall name (path and sha256; small pictures are shown)."""
        self._artifacts.append(path)

    def keep(self, name: str, payload: bytes) -> None:
        """A file for the run's record, so that questions can be answered when the outputs are long gone."""
        self.kept[name] = payload

    def note(self, **facts: object) -> None:
        """How this run was carried out (workers, threads, steps resumed): for the statement, never for an output."""
        self.notes |= facts

    def add_dataset(self, summary: Summary) -> None:
        """A dataset that enters the pipeline here; lineage.json of all that is made from it will name it."""
        self.datasets.append(summary)

    def add_described(self, paths: Iterable[Path]) -> None:
        """Files that an input describes with their sha256, so that reading them is declared by that input."""
        self.described += paths

    def progress(self, total: int, what: str) -> Progress:
        """Rate and remaining time on stderr, at most every 2 s."""
        return Progress(total, what, self.name)

    def compute(self):
        """`with run.compute():` what is inside is work; the rest of the process' life is framework overhead."""
        return self.clock.compute()

    def add_compute(self, seconds: float) -> None:
        """Work that another process did for this one, e.g. a training worker."""
        self.clock.add_compute(seconds)


@contextmanager
def stage(
    name: str,
    args: argparse.Namespace,
    config: Config | Mapping[str, Any],
    *,
    grace_seconds: float = 0.0,
) -> Iterator[Run]:
    """Guard the stage `name`; `config` is its section, or a mapping of every section and value that it uses.

    `grace_seconds`: time between SIGTERM and SIGKILL when DVC ends; training needs it to save a step.
    Raises MissingInputError, MismatchError (inputs), BusyError (somebody else makes this output).
    """
    environment.apply()
    parent_watch.die_with_dvc(grace_seconds)
    with _sigterm_as_exit(), _locked(args):
        clear_after_the_dead(Path.cwd())
        if (metrics := getattr(args, "metrics", None)) and metrics.parent.is_dir():
            remove_leftovers(metrics)
        digests = FileDigests(environment.STATE_DIR / "verify-cache.json", bool(os.environ.get("WHALE_PARANOID")))
        clock = ProcessClock()
        with clock.capture():
            run = Run(name, args, _derive(name, args, config, digests), digests, clock)
        _start_tracking(run)
        _refuse_tainted(run)
        run.attempts.start()
        opened_files.await_workers(environment.STATE_DIR / "opened" / run.digest[:16])
        try:
            with _temporary_out(run):
                yield run
                with clock.capture():
                    subjects = _publish(run, args)
            with clock.capture():
                digests.save()
                record = write_run_record(run, args, subjects)
                opened_files.forget_workers()
            write_timings(run, record)
        except BaseException as error:
            run.beforehand.stop()
            was_killed = isinstance(error, KeyboardInterrupt | SystemExit)
            run.tracking.end("KILLED" if was_killed else "FAILED")
            run.attempts.end(type(error).__name__)
            raise
        run.tracking.end("FINISHED", {"whale.compute_s": f"{run.clock.compute_s:.1f}"})


@dataclass(frozen=True)
class Derived:
    """The derivation, and what it was derived from."""

    derivation: Derivation
    proven: dict[str, ProvenInput]
    code_root: Path
    code: dict[str, dict[str, object]]  # of the import closure, as `code_files` tells


def _derive(name: str, args: argparse.Namespace, config: Config | Mapping[str, Any], digests: FileDigests) -> Derived:
    proven = {key: prove_input(path, digests) for key, path in input_paths(args).items()}
    root, entry = _entry_point(name)
    imports = ImportCache(environment.STATE_DIR / "imports-cache.json")
    code = code_files(root, import_closure(root, entry, None if digests.paranoid else imports))
    imports.save()
    derivation = Derivation(
        stage=name,
        item=getattr(args, "item", None),
        config=_as_plain({name: config} if isinstance(config, Config) else dict(config)),
        inputs={key: each.digest for key, each in proven.items()},
        code_files=len(code),
        code_sha256=closure_digest(code),
    )
    return Derived(derivation, proven, root, code)


def input_paths(args: argparse.Namespace) -> dict[str, Path]:
    """The arguments that name inputs."""
    values = {name: value for name, value in vars(args).items() if name not in (*OUTPUTS, *NOT_PATHS)}
    return {name: Path(value) for name, value in sorted(values.items()) if isinstance(value, str | os.PathLike)}


def _entry_point(name: str) -> tuple[Path, Path]:
    """(project root, file) of `pipelines.<name>`: of the project that holds this file, else of the current folder."""
    for root in (Path(__file__).parents[3], Path.cwd()):
        if (root / "pipelines" / f"{name}.py").is_file():
            return root, Path("pipelines") / f"{name}.py"
    main = Path(getattr(sys.modules["__main__"], "__file__", None) or __file__).absolute()
    return main.parent, main


def _as_plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    return {str(key): _as_plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _profile_of(path: Path | None) -> str:
    """`artifacts/<profile>/...` -> the profile."""
    parts = path.parts if path else ()
    place = parts.index("artifacts") + 1 if "artifacts" in parts else len(parts)
    return parts[place] if place < len(parts) else "default"


def _start_tracking(run: Run) -> None:
    run.tracking.start(run.derivation.stage, run.item, run.profile, {"whale.derivation": run.digest})
    run.tracking.log_params(run.derivation.config)
    for name, digest in run.inputs.items():
        run.tracking.log_input(name, digest, "input")


@contextmanager
def _temporary_out(run: Run) -> Iterator[None]:
    """An exception publishes nothing and leaves nothing."""
    if run.final_out is not None:
        run._out = open_temporary(run.final_out)
    try:
        yield
    finally:
        if run._out is not None:
            shutil.rmtree(run._out, ignore_errors=True)


def _publish(run: Run, args: argparse.Namespace) -> dict[str, str]:
    """Output folder first, metrics last; returns {path: sha256} of what was made."""
    subjects = {}
    if run._out is not None and run.final_out is not None:
        write_json(run._out / LINEAGE_NAME, summarize(run.derivation, _input_summaries(run), run.datasets))
        subjects[str(run.final_out / "MANIFEST.json")] = publish(run._out, run.final_out, run._digests)
        for path in run._artifacts:
            final = run.final_out / path.relative_to(run._out) if path.is_relative_to(run._out) else path
            run.tracking.log_artifact(final, run._digests(final) if final.is_file() else None)
        run.tracking.log_artifact(run.final_out, subjects[str(run.final_out / "MANIFEST.json")])
    if run._metrics is not None and getattr(args, "metrics", None) is not None:
        write_atomically(args.metrics, run._metrics)
        subjects[str(args.metrics)] = run._digests(args.metrics)
    return subjects


def _input_summaries(run: Run) -> list[Summary | None]:
    """lineage.json of every sealed folder that an input stands on."""
    holders = sorted({path for proven in run.proven.values() for path in proven.holders})
    return [read_summary(Path(path).parent) for path in holders if Path(path).name == MANIFEST_NAME]


def _refuse_tainted(run: Run) -> None:
    """No model is made from what was declared tainted, unless WHALE_ALLOW_TAINTED=1 says so; that is recorded."""
    taints = kept_taints()
    if not taints or not run.derivation.stage.startswith(("train_", "finetune_")):
        return
    holders = {digest for proven in run.proven.values() for digest in proven.holders.values()}
    reached = taints_of_inputs(taints, {*run.inputs.values(), *holders}, _input_summaries(run))
    if reached and os.environ.get(ALLOW_TAINTED) != "1":
        remedy = f"remove it from the inputs, or set {ALLOW_TAINTED}=1, which the statement will tell"
        found = "; ".join(taint.describe() for taint in reached)
        raise TaintedError("an input is tainted", place=run.name, found=found, remedy=remedy)
    if reached:
        run.note(allowed_taints=[taint.describe() for taint in reached])


@contextmanager
def _locked(args: argparse.Namespace) -> Iterator[None]:
    output = getattr(args, "out", None) or getattr(args, "metrics", None)
    if output is None:
        yield
        return
    descriptor = lock.acquire(lock.lock_path(environment.STATE_DIR, output), output)
    try:
        yield
    finally:
        lock.release(descriptor)


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """SIGTERM unwinds the stage (exit 143), unless it has a handler of its own, as training does."""
    is_ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, _exit_143)
    try:
        yield
    finally:
        if is_ours:
            with suppress(ValueError):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit_143(*_: object) -> None:
    raise SystemExit(143)
