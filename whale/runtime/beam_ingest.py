"""Ingest on Apache Beam: references to source files in, one shard-writing DoFn, results through files.

Nothing but references flows through the pipeline: a GroupByKey would hold everything in memory. The runner and its
options never change a byte of the result, so they come from the environment (WHALE_BEAM_RUNNER, WHALE_BEAM_OPTIONS,
WHALE_BEAM_WORKERS) or from `execution.beam_workers` and `beam: {runner, options}` of local.yaml, not from params.yaml.
On a cluster the working folder and the raw data must be visible to every worker.
"""

import contextlib
import logging
import os
import shlex
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from whale.config import Config, load_yaml
from whale.data.files import write_json
from whale.data.ingest import IngestTask, process_source_shard
from whale.errors import BadDataError, CannotWriteError, MismatchError, MissingInputError, WhaleError

POLL_SECONDS = 1.0
LOCAL_RUNNER = "FnApiRunner"  # named, because the default runner first tries to download another engine
WORKER_OPTIONS = '{"options": {"default_sdk_harness_log_level": "ERROR"}}'  # else 20 lines of log per worker
ERRORS = {cls.__name__: cls for cls in (BadDataError, CannotWriteError, MismatchError, MissingInputError)}


class BeamConfig(Config):
    """`options`: further Beam pipeline options as on its command line, e.g. --project=p."""

    runner: str = LOCAL_RUNNER
    options: list[str] = []


def load_beam_config(local: Path = Path("local.yaml"), environ: Mapping[str, str] | None = None) -> BeamConfig:
    """Defaults, then `beam:` of local.yaml, then the environment."""
    environ = os.environ if environ is None else environ
    values = dict((load_yaml(local) or {}).get("beam") or {}) if Path(local).is_file() else {}
    if runner := environ.get("WHALE_BEAM_RUNNER"):
        values["runner"] = runner
    if options := environ.get("WHALE_BEAM_OPTIONS"):
        values["options"] = shlex.split(options)
    return BeamConfig.parse(values, file=local, place="beam")


def run_tasks(
    tasks: Sequence[IngestTask], num_workers: int, beam_config: BeamConfig, done: Callable[[int], None] = lambda n: None
) -> None:
    """Process every task; `done(n)` is called as tasks finish. The first task's error is raised as it was.

    num_workers: processes of the local runner; 0 or 1 stays in this process, which saves its start (about 3 s).
    """
    logging.disable(logging.WARNING)  # the import warns of cloud clients that are not there
    import apache_beam as beam  # 1 s that only this function needs
    from apache_beam.options.pipeline_options import PipelineOptions

    logging.disable(logging.NOTSET)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    for task in tasks:
        _error_file(task).unlink(missing_ok=True)
    arguments = [f"--runner={beam_config.runner}", *_local_options(beam_config, num_workers), *beam_config.options]
    options = PipelineOptions(arguments)
    with _worker_environment(), _watch(tasks, done), beam.Pipeline(options=options) as pipeline:
        _ = pipeline | beam.Create(list(tasks), reshuffle=False) | beam.Map(attempt)
    for task in tasks:
        _raise_recorded(task)


def attempt(task: IngestTask) -> None:
    """Process one source file; a user's error is written down, so that Beam can't wrap or retry it."""
    try:
        process_source_shard(task)
    except WhaleError as error:
        fields = {name: getattr(error, name) for name in ("file", "place", "found", "expected", "remedy")}
        plain = {name: None if value is None else str(value) for name, value in fields.items()}
        write_json(_error_file(task), {"kind": type(error).__name__, "what": error.what, "fields": plain})


def _local_options(beam_config: BeamConfig, num_workers: int) -> list[str]:
    if beam_config.runner != LOCAL_RUNNER:
        return []
    mode = "multi_processing" if num_workers > 1 else "in_memory"
    options = [f"--direct_running_mode={mode}", f"--direct_num_workers={max(num_workers, 1)}"]
    return options


@contextlib.contextmanager
def _worker_environment() -> Iterator[None]:
    """Worker processes import `whale` from where this one did, installed or not, and speak up for warnings only."""
    path = os.environ.get("PYTHONPATH")
    root = str(Path(__file__).resolve().parents[2])
    changes = {"PYTHONPATH": os.pathsep.join([root, path] if path else [root])}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as options:
        options.write(WORKER_OPTIONS)
        options.flush()
        changes["PIPELINE_OPTIONS_FILE"] = options.name
        before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


@contextlib.contextmanager
def _watch(tasks: Sequence[IngestTask], done: Callable[[int], None]) -> Iterator[None]:
    """Counts fragments while the pipeline runs: the only sign of progress that every runner gives."""
    stop = threading.Event()
    reported = 0

    def report() -> None:
        nonlocal reported
        finished = sum(task.fragment.is_file() for task in tasks)
        if finished > reported:
            done(finished - reported)
            reported = finished

    def poll() -> None:
        while not stop.wait(POLL_SECONDS):
            report()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        report()


def _error_file(task: IngestTask) -> Path:
    return task.fragment.with_suffix(".error.json")


def _raise_recorded(task: IngestTask) -> None:
    path = _error_file(task)
    if path.is_file():
        error = load_yaml(path)  # JSON is YAML
        raise ERRORS.get(error["kind"], BadDataError)(error["what"], **error["fields"])
