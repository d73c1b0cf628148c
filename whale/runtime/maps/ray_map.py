"""Map a function over shards, in this process or in a Ray Data actor pool; the same results in the same order.

The function writes its output file itself and returns a small fragment for the manifest, so results fit anywhere. Every
worker makes its state (a model) once.
"""

import logging
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from whale.common.errors import ConfigError, portable
from whale.common.progress import Progress
from whale.runtime.workers.process import worker

State = TypeVar("State")
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_shards(
    function: Callable[[State, Item], Result],
    items: Sequence[Item],
    *,
    make_state: Callable[[], State],
    engine: Literal["local", "ray"],
    num_workers: int = 1,
    needs_gpu: bool = False,
    ray_address: str | None = None,
    progress: Progress | None = None,
    add_compute: Callable[[float], None] = lambda seconds: None,
) -> list[Result]:
    """`[function(state, item) for item in items]`, with one `make_state()` per worker.

    `add_compute` is told the seconds that the workers, side by side, spent in `function`: the rest is overhead.

    With engine "ray" both functions and the items must be picklable, and results small. The error of the first item
    that fails is raised as it was; later items may have been done. `needs_gpu`: one for each of Ray's workers, so
    there are no more of them than GPUs.
    """
    if engine not in ("local", "ray"):
        raise ConfigError("no such map engine", found=engine, expected="local or ray")
    if not items:
        return []
    if engine == "local":
        finished = _local_results(function, items, make_state)
    else:
        finished = _ray_results(function, items, make_state, min(num_workers, len(items)), needs_gpu, ray_address)
    results = {}
    for number, result, seconds in finished:
        results[number] = result
        add_compute(seconds)
        if progress is not None:
            progress.update()
    return [results[number] for number in range(len(items))]


def pool_size(num_workers: int, num_gpus: float) -> int:
    """No more workers than GPUs: one that gets none would be waited for in silence. ConfigError without any."""
    if num_gpus < 1:
        raise ConfigError(
            "Ray has no free GPU for the workers of this stage",
            place="execution.device (local.yaml or WHALE_DEVICE)",
            found="cuda",
            remedy="set it to cpu, set this stage's execution.map_engine to local, or start Ray where the GPUs are",
        )
    return min(num_workers, int(num_gpus))


def _local_results(
    function: Callable[[Any, Any], Any], items: Sequence[Any], make_state: Callable[[], Any]
) -> Iterator[tuple[int, Any, float]]:
    state = make_state()
    for number, item in enumerate(items):
        started = time.monotonic()
        result = function(state, item)
        yield number, result, time.monotonic() - started


class _Worker:
    """One actor of the pool. Items, results and errors travel pickled: Arrow would change their types."""

    def __init__(self, function: Callable[[Any, Any], Any], make_state: Callable[[], Any]):
        worker.listen_in_worker()
        self.function, self.state = function, make_state()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        started = time.monotonic()
        try:
            outcome = (True, self.function(self.state, pickle.loads(row["item"])))
        except Exception as error:  # raised again in the stage, with its own type
            outcome = (False, portable(error))
        seconds = time.monotonic() - started
        return {"number": row["number"], "outcome": pickle.dumps(outcome), "seconds": seconds}


def _ray_results(
    function: Callable[[Any, Any], Any],
    items: Sequence[Any],
    make_state: Callable[[], Any],
    num_workers: int,
    needs_gpu: bool,
    address: str | None,
) -> Iterator[tuple[int, Any, float]]:
    """(number, result, seconds divided by the workers side by side) of each item."""
    from whale.runtime.workers.ray_session import ray_session  # sets the switches, then imports ray

    # The session has one CPU more than the pool: a pool that takes every CPU waits for ever, in silence.
    with ray_session(num_workers, address):
        import ray.data

        if needs_gpu:
            num_workers = pool_size(num_workers, ray.available_resources().get("GPU", 0))
        context = ray.data.DataContext.get_current()
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # the stage has its own progress
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True  # the first error in item order is the one that is raised
        rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]
        mapped = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(function, make_state),
            compute=ray.data.ActorPoolStrategy(size=num_workers),
            num_cpus=1,
            num_gpus=1 if needs_gpu else None,
        )
        for row in mapped.iter_rows():
            is_good, result = pickle.loads(row["outcome"])
            if not is_good:
                raise result
            yield int(row["number"]), result, float(row["seconds"]) / num_workers
