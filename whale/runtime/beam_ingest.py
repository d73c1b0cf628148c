"""Ingest on Apache Beam: references to source files in, one shard-writing DoFn, results through files.

Nothing but references flows through the pipeline: a GroupByKey would hold everything in memory. The runner and its
options never change a byte of the result, so they come from the environment (WHALE_BEAM_RUNNER, WHALE_BEAM_OPTIONS,
WHALE_BEAM_WORKERS) or from `execution.beam_workers` and `beam: {runner, options}` of local.yaml, not from params.yaml.
On a cluster the working folder and the raw data must be visible to every worker.
"""

import logging
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from whale.common.config import Config, section_of
from whale.common.errors import BadDataError, CannotWriteError, MismatchError, MissingInputError, WhaleError
from whale.common.json_files import read_json, write_json
from whale.common.progress import polling
from whale.data.ingest.ingest import IngestTask, process_source_shard, records_done
from whale.runtime.workers.process import worker

POLL_SECONDS = 1.0
LOCAL_RUNNER = "FnApiRunner"  # named, because the default runner first tries to download another engine
ERRORS = {cls.__name__: cls for cls in (BadDataError, CannotWriteError, MismatchError, MissingInputError)}


class BeamConfig(Config):
    """`options`: further Beam pipeline options as on its command line, e.g. --project=p."""

    runner: str = LOCAL_RUNNER
    options: list[str] = []


def load_beam_config(local: Path = Path("local.yaml"), environ: Mapping[str, str] | None = None) -> BeamConfig:
    """Defaults, then `beam:` of local.yaml, then the environment."""
    environ = os.environ if environ is None else environ
    values = section_of(local, "beam")
    if runner := environ.get("WHALE_BEAM_RUNNER"):
        values["runner"] = runner
    if options := environ.get("WHALE_BEAM_OPTIONS"):
        values["options"] = shlex.split(options)
    return BeamConfig.parse(values, file=local, place="beam")


def run_tasks(
    tasks: Sequence[IngestTask], num_workers: int, beam_config: BeamConfig, done: Callable[[int], None] = lambda n: None
) -> None:
    """Process every task; `done(n)` is called as records are done. The first task's error is raised as it was.

    num_workers: processes of the local runner. Each runs a pipeline over its share in memory: Beam's own
    `multi_processing` mode opens ports on every interface without authentication (measured: 6 for 2 workers).
    """
    for task in tasks:
        _error_file(task).unlink(missing_ok=True)
    num_shares = num_workers if beam_config.runner == LOCAL_RUNNER else 1
    shares = [share for n in range(num_shares) if (share := tasks[n::num_shares])]
    with polling(_finished(tasks, done), POLL_SECONDS):
        if len(shares) <= 1:
            run_pipeline(tasks, beam_config)
        else:
            with ProcessPoolExecutor(len(shares), mp_context=get_context("spawn")) as pool:
                list(pool.map(run_pipeline, shares, [beam_config] * len(shares)))
    for task in tasks:
        _raise_recorded(task)


def run_pipeline(tasks: Sequence[IngestTask], beam_config: BeamConfig) -> None:
    """One Beam pipeline over `tasks`."""
    worker.listen_in_worker()
    logging.disable(logging.WARNING)  # the import warns of cloud clients that are not there
    import apache_beam as beam  # 1 s that only this function needs
    from apache_beam.options.pipeline_options import PipelineOptions

    logging.disable(logging.NOTSET)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    local = ["--direct_running_mode=in_memory"] if beam_config.runner == LOCAL_RUNNER else []
    options = PipelineOptions([f"--runner={beam_config.runner}", *local, *beam_config.options])
    with beam.Pipeline(options=options) as pipeline:
        _ = pipeline | beam.Create(list(tasks), reshuffle=False) | beam.Map(attempt)


def attempt(task: IngestTask) -> None:
    """Process one source file; a user's error is written down, so that Beam can't wrap or retry it."""
    try:
        process_source_shard(task)
    except WhaleError as error:
        fields = {name: getattr(error, name) for name in ("file", "place", "found", "expected", "remedy")}
        plain = {name: None if value is None else str(value) for name, value in fields.items()}
        write_json(_error_file(task), {"kind": type(error).__name__, "what": error.what, "fields": plain})


def _finished(tasks: Sequence[IngestTask], done: Callable[[int], None]) -> Callable[[], None]:
    """A look at what the working folder says: the only sign of progress that every runner gives."""
    reported = 0

    def look() -> None:
        nonlocal reported
        finished = sum(map(records_done, tasks))
        if finished > reported:
            done(finished - reported)
            reported = finished

    return look


def _error_file(task: IngestTask) -> Path:
    return task.fragment.with_suffix(".error.json")


def _raise_recorded(task: IngestTask) -> None:
    path = _error_file(task)
    if path.is_file():
        error = read_json(path)
        raise ERRORS.get(error["kind"], BadDataError)(error["what"], **error["fields"])
