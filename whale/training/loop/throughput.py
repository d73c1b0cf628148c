"""How fast a training runs: tokens and segments per second, arithmetic per second, the share of waiting for data.

Timings go to the log, never into an output. FLOP are counted by torch on one segment's forward pass (matrix products
and attention), times 3 for training; MFU divides by the stated peak of the device.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from whale.models.trunk.folder import PublishedModel
from whale.training.loop.counting import training_flops

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "4090": 165e12}  # dense bf16, as printed by the maker


class Throughput:
    """Clocks of one worker; rates are over all workers, which take equal slices of the global batch."""

    def __init__(self, device: torch.device, batch_size: int, world_size: int):
        self.device, self.batch_size, self.world_size = device, batch_size, world_size
        self.flops_of_segment: float | None = None
        self.tokens_of_segment = 0
        self._start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, the loop waits for its loader."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside is no training: saving, validating."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.idle += time.perf_counter() - started

    def measure(self, model: PublishedModel, batch: Mapping[str, Tensor]) -> None:
        """Count the FLOP and tokens of one segment; once per process."""
        row = {name: value[:1] for name, value in batch.items()}
        self.flops_of_segment = training_flops(model, row)
        self.tokens_of_segment = num_tokens(model, row)
        self._start()

    def step_done(self) -> None:
        """Count one optimizer step."""
        self.steps += 1

    def record(self) -> dict[str, float]:
        """Rates since the last record; empty when nothing was done."""
        seconds = time.perf_counter() - self.started - self.idle
        if not self.steps or seconds <= 0 or self.flops_of_segment is None:
            return {}
        segments = self.steps * self.batch_size / seconds
        flops = segments * self.flops_of_segment
        found = {
            "speed/step_ms": 1000 * seconds / self.steps,
            "speed/segments_per_s": segments,
            "speed/tokens_per_s": segments * self.tokens_of_segment,
            "speed/teraflops": flops / 1e12,
            "speed/loader_wait_share": self.waited / seconds,
        }
        if (peak := peak_flops(self.device)) is not None:
            found["speed/mfu"] = flops / (peak * self.world_size)
            found["speed/peak_memory_gb"] = torch.cuda.max_memory_allocated(self.device) / 1e9
        self._start()
        return found

    def _start(self) -> None:
        self.started, self.waited, self.idle, self.steps = time.perf_counter(), 0.0, 0.0, 0


def num_tokens(model: PublishedModel, row: Mapping[str, Tensor]) -> int:
    """Tokens of one segment: stored ones, frames that were described before, latents or patches of its frames."""
    if "tokens" in row:
        return row["tokens"][:, 1:].numel()
    if "features" in row:
        return row["features"].shape[1] * row["features"].shape[2]
    config = model.config
    if not hasattr(config, "patch_size"):  # a recurrent model: as many latents a frame as it has categoricals
        return row["frames"].shape[1] * config.num_categories
    return row["frames"].shape[1] * (config.resolution // config.patch_size) ** 2


def peak_flops(device: torch.device) -> float | None:
    """Of the accelerator, by its name; None for one we know no figure of, and for a CPU."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for known, peak in PEAKS.items() if known in name), None)
