"""The guard around each stage: proven inputs, one writer, whole outputs, a statement, an end with DVC.

    with stage("pretokenize", args, {"pretokenize": config, "segments": segments}) as run:
        ...write into run.out...

whale/run.py stands inside of it: a stage knows nothing of its guard. Every path of `args` is an input, except `out` (a
folder, published by rename) and `metrics` (a JSON file). Errors pass through.
"""

import argparse
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from whale.common.config import Config
from whale.common.errors import ConfigError, TaintedError
from whale.common.files import MANIFEST_NAME, WEIGHTS, write_atomically
from whale.common.json_files import write_json
from whale.guard import experiment, lock, opened_files, parent_watch
from whale.guard.guarded_run import SAMPLE, Derived, GuardedRun
from whale.guard.leftovers import clear_after_the_dead
from whale.guard.process_clock import ProcessClock
from whale.guard.publish import open_temporary, publish, remove_leftovers, require_contained
from whale.guard.run_record import write_run_record, write_timings
from whale.lineage.closure import closure_digest, code_files, import_closure
from whale.lineage.code_memory import CodeMemory
from whale.lineage.file_digests import FileDigests
from whale.lineage.inputs import prove_input
from whale.lineage.statement import Derivation
from whale.lineage.summary import LINEAGE_NAME, Summary, read_summary, summarize
from whale.lineage.taint import kept_taints, taints_of_inputs
from whale.lineage.trust import require_signer
from whale.pipeline_file import description
from whale.runtime.workers.process import environment

OUTPUTS = ("out", "metrics")
NOT_PATHS = ("item",)
DEFAULT_HANDLERS = (signal.SIG_DFL, signal.default_int_handler)
ALLOW_TAINTED = "WHALE_ALLOW_TAINTED"
HERE, RUNNER = Path(__file__).parents[2], Path("whale/run.py")


@contextmanager
def stage(
    name: str,
    args: argparse.Namespace,
    config: Config | Mapping[str, Any],
    *,
    grace_seconds: float = 0.0,
    code: Path | None = None,
    unread: Mapping[str, str] | None = None,
) -> Iterator[GuardedRun]:
    """Guard the stage `name`; `config` is its section, or a mapping of every section and value that it uses.

    `grace_seconds`: time between SIGTERM and SIGKILL when DVC ends; training needs it to save a step.
    `code`: the file that runs; pipelines/<name>.py by default. `unread`: see `StageArgs`.
    Raises ConfigError (a sample that DVC asked for), RefusedError (an output outside the project), MissingInputError,
    MismatchError (inputs), BusyError (another process makes this output).
    """
    environment.apply()
    if os.environ.get(SAMPLE) and "DVC_STAGE" in os.environ:
        raise ConfigError(
            "a sample is no output",
            place=SAMPLE,
            found=os.environ[SAMPLE],
            remedy="unset it: `whale accept` alone uses it",
        )
    for output in filter(None, (getattr(args, name, None) for name in OUTPUTS)):
        require_contained(output)
    parent_watch.die_with_dvc(grace_seconds)
    experiment.carry_trust()
    require_signer()  # first: nobody shall train for days to be told that nothing can be signed
    with _signals_unwind() as raised, _locked(args):
        clear_after_the_dead(Path.cwd())
        if (metrics := getattr(args, "metrics", None)) and metrics.parent.is_dir():
            remove_leftovers(metrics)
        digests = FileDigests(environment.STATE_DIR / "verify-cache.json", bool(os.environ.get("WHALE_PARANOID")))
        clock = ProcessClock()
        with clock.capture():
            run = GuardedRun(name, args, _derive(name, args, config, digests, code, unread or {}), digests, clock)
            if unread:
                run.note(proven_by_size=dict(unread))
        _start_tracking(run)
        summaries = _input_summaries(run)
        _refuse_tainted(run, summaries)
        run.attempts.start()
        opened_files.await_workers(environment.STATE_DIR / "opened" / run.identity[:16])
        try:
            with _still_an_exit(raised), _temporary_out(run):
                yield run
                with clock.capture():
                    subjects = _publish(run, args, summaries)
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
        about = {"whale.run": record.name, "whale.commit": run.beforehand.code_state().commit or "none"}
        run.tracking.end("FINISHED", about | {"whale.compute_s": f"{run.clock.compute_s:.1f}"})


def _derive(
    name: str,
    args: argparse.Namespace,
    config: Config | Mapping[str, Any],
    digests: FileDigests,
    file: Path | None,
    unread: Mapping[str, str],
) -> Derived:
    root, entry = (file.parents[1], file.relative_to(file.parents[1])) if file else _entry_point(name)
    memory = CodeMemory(environment.STATE_DIR / "code-cache.json")
    code = code_files(root, import_closure(root, entry, memory), memory)  # first: what is edited later is not what runs
    builder = code_files(HERE, import_closure(HERE, RUNNER, memory), memory)
    memory.save()
    proven = {key: prove_input(path, digests, unread.get(key)) for key, path in input_paths(args).items()}
    derivation = Derivation(
        stage=name,
        item=getattr(args, "item", None),
        config=_as_plain({name: config} if isinstance(config, Config) else dict(config)) | _sample(),
        inputs={key: each.digest for key, each in proven.items()},
        code_sha256=closure_digest(code, "syntax"),
    )
    return Derived(derivation, proven, root, code, builder)


def _sample() -> dict[str, bool]:
    """A part of the work is another work."""
    return {"sample": True} if os.environ.get(SAMPLE) else {}


def input_paths(args: argparse.Namespace) -> dict[str, Path]:
    """The arguments that name inputs."""
    values = {name: value for name, value in vars(args).items() if name not in (*OUTPUTS, *NOT_PATHS)}
    return {name: Path(value) for name, value in sorted(values.items()) if isinstance(value, str | os.PathLike)}


def _entry_point(name: str) -> tuple[Path, Path]:
    """(project root, file) of `pipelines.<name>`: of the project that holds this file, else of the current folder."""
    for root in (HERE, Path.cwd()):
        if (root / "pipelines" / f"{name}.py").is_file():
            return root, Path("pipelines") / f"{name}.py"
    main = Path(getattr(sys.modules["__main__"], "__file__", None) or __file__).absolute()
    return main.parent, main


def _as_plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.deciding_values()
    return {str(key): _as_plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _start_tracking(run: GuardedRun) -> None:
    about = {"command": run.command, "desc": description(Path.cwd(), run.derivation.stage), **experiment.facts()}
    run.tracking.start(run.derivation.stage, run.item, run.profile, {"whale.derivation": run.identity}, **about)
    run.tracking.log_params(run.derivation.config)
    for name, digest in run.inputs.items():
        run.tracking.log_input(name, digest, run.proven[name].holders)


@contextmanager
def _temporary_out(run: GuardedRun) -> Iterator[None]:
    """An exception publishes nothing and leaves nothing."""
    if run.final_out is not None:
        run.temporary_out = open_temporary(run.final_out)
    try:
        yield
    finally:
        if run.temporary_out is not None:
            shutil.rmtree(run.temporary_out, ignore_errors=True)


def _publish(run: GuardedRun, args: argparse.Namespace, summaries: list[Summary | None]) -> dict[str, str]:
    """Output folder first, metrics last; returns {path: sha256} of what was made."""
    subjects = {}
    if run.temporary_out is not None and run.final_out is not None:
        write_json(run.temporary_out / LINEAGE_NAME, summarize(run.derivation, summaries, run.datasets))
        subjects[str(run.final_out / MANIFEST_NAME)] = publish(run.temporary_out, run.final_out, run.digests)
        for path in run.artifacts:
            final = (
                run.final_out / path.relative_to(run.temporary_out) if path.is_relative_to(run.temporary_out) else path
            )
            run.tracking.log_artifact(final, run.digests(final) if final.is_file() else None)
        run.tracking.log_artifact(run.final_out, subjects[str(run.final_out / MANIFEST_NAME)])
        if (weights := run.final_out / WEIGHTS).is_file():
            run.tracking.log_model(run.final_out, subjects[str(run.final_out / MANIFEST_NAME)], run.digests(weights))
    if run.metrics is not None and getattr(args, "metrics", None) is not None:
        write_atomically(args.metrics, run.metrics)
        subjects[str(args.metrics)] = run.digests(args.metrics)
    return subjects


def _input_summaries(run: GuardedRun) -> list[Summary | None]:
    """lineage.json of every sealed folder that an input stands on; MismatchError for one in an older form."""
    holders = sorted({path for proven in run.proven.values() for path in proven.holders})
    return [read_summary(Path(path).parent) for path in holders if Path(path).name == MANIFEST_NAME]


def _refuse_tainted(run: GuardedRun, summaries: list[Summary | None]) -> None:
    """No model is made from what was declared tainted, unless WHALE_ALLOW_TAINTED=1 says so; that is recorded."""
    taints = kept_taints()
    if not taints or not run.derivation.stage.startswith(("train_", "finetune_")):
        return
    holders = {digest for proven in run.proven.values() for digest in proven.holders.values()}
    reached = taints_of_inputs(taints, {*run.inputs.values(), *holders}, summaries)
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
def _signals_unwind() -> Iterator[list[BaseException]]:
    """SIGTERM (exit 143) and SIGINT (130) unwind the stage, unless it has handlers of its own, as training does.

    Yields what was raised for one.
    """
    raised: list[BaseException] = []

    def unwind(number: int, _: object) -> None:
        raised.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(143))
        raise raised[-1]

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    ours = [number for number, handler in before.items() if is_main and handler in DEFAULT_HANDLERS]
    for number in ours:
        signal.signal(number, unwind)
    try:
        yield raised
    finally:
        for number in ours:
            with suppress(ValueError):
                signal.signal(number, before[number])


@contextmanager
def _still_an_exit(raised: list[BaseException]) -> Iterator[None]:
    """A framework may wrap what a signal raised in an error of its own, as Beam does: it is that exit again."""
    try:
        yield
    except Exception as error:
        if raised:
            raise raised[-1] from error
        raise
