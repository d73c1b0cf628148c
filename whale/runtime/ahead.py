"""Items that other processes make while this one uses those before."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from whale.runtime.guard import opened_files

T = TypeVar("T")


@contextmanager
def made_ahead(make: Callable[..., T], calls: Iterable[tuple[Any, ...]], workers: int = 2) -> Iterator[Iterator[T]]:
    """`make(*call)` for each of `calls`, in order; the first ones are under way when the body begins.

    At most twice as many as `workers` are made or wait. `make`, its arguments and results must be picklable; what it
    raises is raised at its place.
    """
    remaining, context = iter(calls), get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=opened_files.listen_in_worker) as pool:
        waiting: deque[Future[T]] = deque(pool.submit(make, *call) for call in islice(remaining, 2 * workers))

        def made() -> Iterator[T]:
            while waiting:
                item = waiting.popleft().result()
                waiting.extend(pool.submit(make, *call) for call in islice(remaining, 1))
                yield item

        try:
            yield made()
        finally:
            pool.shutdown(cancel_futures=True)
