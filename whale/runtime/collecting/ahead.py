"""Items that other processes make while this one uses those before."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

from whale.common.errors import WorkerLostError
from whale.runtime.workers.process import worker
from whale.runtime.workers.process.worker import die_with_parent

T = TypeVar("T")


@contextmanager
def made_ahead(make: Callable[..., T], calls: Iterable[tuple[Any, ...]], workers: int = 2) -> Iterator[Iterator[T]]:
    """`make(*call)` for each of `calls`, in order; the first ones are under way when the body begins.

    Beside the item in use at most twice as many as `workers` are made or wait. `make`, its arguments and results must
    be picklable; what it raises is raised at its place. Workers end with this process, and at once when the body fails.
    Raises WorkerLostError when one of them is killed.
    """
    remaining, before = iter(calls), set(active_children())
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
    ) as pool:
        waiting: deque[Future[T]] = deque(pool.submit(make, *call) for call in islice(remaining, 2 * workers))
        pool.submit(int)  # wakes the pool's own thread once more, which may have missed the worker that came last

        def made() -> Iterator[T]:
            while waiting:
                item = waiting.popleft().result()
                waiting.extend(pool.submit(make, *call) for call in islice(remaining, 1))
                yield item

        try:
            yield made()
        except BaseException as error:
            for process in set(active_children()) - before:
                process.kill()  # the pool would wait for what it makes
            if not isinstance(error, BrokenProcessPool):
                raise
            raise WorkerLostError("a worker process was killed", found=str(error)) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    if not die_with_parent(parent):
        os._exit(1)
    worker.listen_in_worker()
