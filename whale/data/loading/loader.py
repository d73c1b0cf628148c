"""Batches for training: draws of the sampling plan -> stacked numpy arrays, one slice of the global batch per rank.

The loader has no state but the step. Step s uses draws [s G, (s + 1) G) of a constant global batch G; rank r takes its
contiguous slice. Nothing about a sample depends on a worker's or a rank's history, so any number of ranks, and a
resumed run, see the same samples.
"""

import os
import queue
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from whale.common.errors import ConfigError, RefusedError
from whale.data.loading.plan_difference import require_same_plan
from whale.data.loading.receipt import Batch, Segments, consumption_receipt, rank_ledger
from whale.data.loading.recycling import RecycledBuffers
from whale.data.loading.sampler import Plan, SegmentSampler, rank_slice
from whale.data.loading.segment_reading import PixelSegments, TokenSegments

__all__ = ["PixelSegments", "SegmentLoader", "TokenSegments"]

PREFETCH_BATCHES = 2
BATCHES_ALIVE = PREFETCH_BATCHES + 4  # those that wait, two that are made, one handed over, one in use
TASKS_OF_A_THREAD = 2  # a batch is cut into so many for each: handing over single samples costs what a thread gains
MOST_THREADS = 6  # more wait for one another


def share_of_cores(num_workers: int) -> int:
    """Threads that decode for one of so many workers of this machine: its cores but the one that trains, 1 to 6."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // max(num_workers, 1) - 1, 1), MOST_THREADS)


def _require_planned_data(plan: Plan, segments: Segments) -> None:
    for dataset in plan.datasets:
        name = dataset.name
        config = segments.segment_config(name)
        found = (config.window, config.phases, segments.num_segments(name), segments.shards_digest(name))
        expected = (plan.window, plan.phases, dataset.num_segments, dataset.shards_digest)
        if found != expected:
            raise RefusedError(
                "the plan was made for other segments: (window, phases, number, digest of the shards)",
                place=name,
                found=found,
                expected=expected,
                remedy="run the stage mix again, then what follows",
            )


class SegmentLoader:
    """Iterates (step, batch) from `start_step` on, for ever.

    Batches are prepared by one thread, their samples by `decode_threads` (decoding lets others run); which thread reads
    a sample changes nothing about it. A batch's memory is used again once nothing refers to it.
    """

    def __init__(
        self,
        sampler: SegmentSampler,
        segments: Segments,
        global_batch: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        decode_threads: int = 1,
    ):
        if global_batch % world_size:
            legal = [n for n in range(1, global_batch + 1) if global_batch % n == 0]
            raise ConfigError(
                "the global batch does not divide among the workers",
                found=f"{global_batch} samples, {world_size} workers",
                expected=f"a number of workers among {legal}",
            )
        _require_planned_data(sampler.plan, segments)
        self.sampler, self.segments, self.global_batch = sampler, segments, global_batch
        self.rank, self.world_size = rank, world_size
        self._pool = ThreadPoolExecutor(decode_threads) if decode_threads > 1 else None
        self._num_tasks = TASKS_OF_A_THREAD * decode_threads
        num_samples = global_batch // world_size
        self._buffers = RecycledBuffers(lambda: self.segments.buffers(num_samples), BATCHES_ALIVE)
        self.step = start_step  # the whole state: the step that comes next

    def position(self, step: int) -> dict:
        """What makes a resumed loader go on with step `step`: its whole state, and the plan it belongs to."""
        return {"next_sample": step * self.global_batch, "plan": self.sampler.plan.model_dump(mode="json")}

    def resume(self, position: Mapping[str, Any]) -> None:
        """Go on where `position` was taken, on any number of ranks.

        Raises RefusedError with the differences when the plan (seed, weights, shards, cut) is another one or when the
        position lies inside a step of this global batch.
        """
        require_same_plan(position["plan"], self.sampler.plan)
        step, rest = divmod(position["next_sample"], self.global_batch)
        if rest:
            raise RefusedError(
                "the position lies inside a step: the global batch was another one", found=position["next_sample"],
                expected=f"a multiple of {self.global_batch}", remedy="resume with the batch_size of the saved run",
            )  # fmt: skip
        self.step = step

    def batch(self, step: int) -> Batch:
        """This rank's slice of the batch of `step`: stacked arrays."""
        return self._finish(*self._start(step, self.segments.buffers(self.global_batch // self.world_size)))

    def _start(self, step: int, buffers: Batch) -> tuple[Batch, Iterator[Batch]]:
        """The arrays of a batch, and its parts on their way into them (with threads they are read at once)."""
        own = rank_slice(step, self.global_batch, self.rank, self.world_size)
        draws = self.sampler.draws(own.start, own.stop)
        size = max(1, len(draws) // self._num_tasks)
        parts = [slice(first, first + size) for first in range(0, len(draws), size)]
        into = [{name: array[part] for name, array in buffers.items()} for part in parts]
        read = self._pool.map if self._pool else map
        return buffers, read(self.segments.fetch, [draws[part] for part in parts], into)

    def _finish(self, buffers: Batch, coming: Iterator[Batch]) -> Batch:
        parts = list(coming)
        small = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name not in buffers}
        return buffers | small

    def memory_bound(self) -> int:
        """Bytes that this loader holds at most, whatever the size of the data and however long it runs.

        The index (8 bytes a frame, some hundred an episode, 8 a segment), the cache of episodes, and the batches alive.
        """
        batch = sum(array.nbytes for array in self.batch(self.step).values())
        return self.segments.memory_bound() + BATCHES_ALIVE * batch

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        """Yields from `self.step` on. A failed read stops the iteration with its error; no sample is substituted."""
        ready: queue.Queue = queue.Queue(maxsize=PREFETCH_BATCHES)
        stopped = threading.Event()
        thread = threading.Thread(target=self._produce, args=(self.step, ready, stopped), daemon=True)
        thread.start()
        try:
            while True:
                step, batch, error = ready.get()
                if error is not None:
                    raise error
                self.step = step + 1
                yield step, batch
        finally:
            stopped.set()
            thread.join()

    def receipt(self, num_steps: int | None = None) -> dict:
        """What `num_steps` steps of all ranks consume (default: up to the current step), planned against realised."""
        steps = self.step if num_steps is None else num_steps
        receipt = consumption_receipt(self.sampler, self.segments, steps * self.global_batch)
        for name, row in receipt["datasets"].items():
            row |= self.segments.choice(name)
        return receipt | {"ledger": rank_ledger(self.global_batch, self.world_size, steps)}

    def _produce(self, step: int, ready: queue.Queue, stopped: threading.Event) -> None:
        ahead: tuple[Batch, Iterator[Batch]] | None = None
        while not stopped.is_set():
            item: tuple[int, Batch, Exception | None]
            try:
                current = ahead or self._start(step, self._buffers.take())
                # Threads never wait for the slowest sample of a batch: the next one is under way.
                ahead = self._start(step + 1, self._buffers.take())
                item = (step, self._finish(*current), None)
            except Exception as error:  # handed to the consumer, which raises it
                item = (step, {}, error)
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if item[2] is not None:
                return
            step += 1
