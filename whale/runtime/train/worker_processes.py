"""A group of worker processes on this machine: a fresh interpreter each, joined by torch's gloo (or NCCL).

This process holds the group's store on a loopback port, waits, and ends everybody when one is gone.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any, Literal

from whale.common.errors import WhaleError, WorkerLostError, portable
from whale.runtime.train.training_job import TrainingJob
from whale.runtime.workers.process.environment import on_this_machine_only
from whale.runtime.workers.process.worker import die_with_parent, listen_in_worker

REPORT_SECONDS = 5.0  # how long the others may take to say what they know when one has ended badly


def run_group(job: TrainingJob, start_method: Literal["spawn", "fork"] = "spawn") -> None:
    """Run `job` in `job.num_workers` processes to their end; "fork" is for tests, where torch is loaded already.

    Raises the error of a worker; WorkerLostError when one was lost, after every other has been ended.
    """
    context = multiprocessing.get_context(start_method)
    with _store(job.num_workers) as port:
        workers = [_Worker(context, job, rank, port) for rank in range(job.num_workers)]
        try:
            _wait(workers)
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    def __init__(self, context: Any, job: TrainingJob, rank: int, port: int):
        self.rank = rank
        self.errors, child = context.Pipe(duplex=False)
        arguments = (job, rank, port, child, os.getpid())
        self.process = context.Process(target=_start, args=arguments, name=f"train-{rank}", daemon=True)
        self.process.start()
        child.close()
        self.reported: BaseException | None = None

    def receive(self) -> None:
        """Take in what the worker reports; nothing when it closed its end. Long reports do not fit into the pipe."""
        with contextlib.suppress(EOFError, OSError):
            self.reported = self.errors.recv()

    def error(self) -> BaseException | None:
        """What the worker reported before it ended."""
        with contextlib.suppress(OSError):
            if self.reported is None and self.errors.poll():
                self.receive()
        return self.reported

    def end(self) -> None:
        """At once; a worker that is done already is only cleared away."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.process.close()
        self.errors.close()


def _wait(workers: list[_Worker]) -> None:
    running = {worker.process.sentinel: worker for worker in workers}
    reports = {worker.errors: worker for worker in workers}
    ended: list[_Worker] = []
    deadline = None
    while running:
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        for ready in wait([*running, *reports], timeout):
            if ready in reports:  # each worker reports once, or ends without a word
                reports.pop(ready).receive()
            else:
                ended.append(running.pop(ready))
                ended[-1].process.join()  # its exit code is known a moment later than its end
        if deadline is None and any(worker.process.exitcode for worker in ended):
            deadline = time.monotonic() + REPORT_SECONDS
        if deadline is not None and time.monotonic() >= deadline:
            break
    if deadline is not None:
        raise _cause(ended)


def _cause(ended: list[_Worker]) -> BaseException:
    """A named error first; then a worker that was lost (others only saw its connection close); then any error."""
    errors = {worker.rank: worker.error() for worker in sorted(ended, key=lambda worker: worker.rank)}
    # Where one worker says why, the others may have seen its connection close.
    named = sorted((error for error in errors.values() if isinstance(error, WhaleError)), key=_is_lost)
    lost = [worker for worker in ended if worker.process.exitcode and errors[worker.rank] is None]
    if named:
        return named[0]
    if lost:
        return WorkerLostError(", ".join(f"worker {each.rank}, exit code {each.process.exitcode}" for each in lost))
    return next(error for error in errors.values() if error is not None)


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, WorkerLostError)


@contextlib.contextmanager
def _store(num_workers: int) -> Iterator[int]:
    """torch's key-value store of the group on a loopback port; torch by itself would listen on every interface."""
    from torch.distributed import TCPStore

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    port = listening.getsockname()[1]
    store = TCPStore("127.0.0.1", port, None, True, wait_for_workers=False, master_listen_fd=listening.detach())
    yield port
    del store


def _start(job: TrainingJob, rank: int, port: int, errors: Any, parent: int) -> None:
    """A worker's life. Signals are the parent's business, and with the parent the worker ends."""
    if not die_with_parent(parent):
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    on_this_machine_only()
    if job.engine.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a worker that sees no GPU cannot take memory of one
    from torch.distributed import TCPStore

    from whale.runtime.train.train_worker import work_in_group

    listen_in_worker()
    try:
        work_in_group(job, rank, TCPStore("127.0.0.1", port, None, False, wait_for_workers=False))
    except BaseException as error:
        errors.send(portable(error))
        os._exit(70)
    sys.stdout.flush()
    os._exit(0)  # threads of torch have nothing left to do
