"""One optimizer step: forward and backward over micro-batches, clip, refuse what is not finite, update.

The gradient is that of the mean over the whole global batch, however it is cut: into slices by workers (averaged by
DDP or FSDP) and, within a worker, into micro-batches (weighted by their rows). Cuts change float sums, nothing else.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from whale.training.loop.optimizer import OptimizationConfig, learning_rate
from whale.training.loop.resume.optimizer_state import whole

Batch = dict[str, Tensor]


class GradientStep:
    """`gradients`, then `update`, of one model and optimizer; `model` is the wrapped one, `inner` holds the weights."""

    def __init__(
        self,
        model: nn.Module,
        inner: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: OptimizationConfig,
        micro_batch: int | None,
    ):
        self.model, self.inner, self.optimizer, self.config = model, inner, optimizer, config
        self.micro_batch = micro_batch
        self.device = next(inner.parameters()).device

    def gradients(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Forward, backward, clip: the logs (scalars) and whether loss and gradient are finite, on every worker.

        Both lie on the device, and nothing here waits for it: a GPU has its next kernels while it computes.
        """
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        logs: dict[str, Tensor] = {}
        parts = list(micro_batches(batch, self.micro_batch))
        for number, (part, share) in enumerate(parts):
            with self._synchronised(number == len(parts) - 1):
                with self.autocast():
                    loss, found = self.model(part)
                # A loss that is not finite makes every gradient NaN, so all workers see it in what they exchange:
                # 0 times inf is NaN. `where` with numbers would copy them to the device in each step.
                (loss * (loss.detach() * 0 + share)).backward()
            for name, value in {"loss": loss, **found}.items():
                weighted = value.detach() * share if share != 1 else value.detach()
                logs[name] = logs[name] + weighted if name in logs else weighted
        norm = whole(nn.utils.clip_grad_norm_(self.inner.parameters(), self.config.grad_clip))
        logs["grad_norm"] = norm
        return logs, torch.isfinite(norm)

    def update(self, step: int) -> float:
        """Move the weights at the rate of 0-based `step`; returns the rate."""
        rate = learning_rate(step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return rate

    def autocast(self) -> AbstractContextManager:
        """bfloat16 where the config asks for it."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _synchronised(self, is_last: bool) -> AbstractContextManager:
        """Workers exchange gradients once per step, with the last micro-batch."""
        wrapped: Any = self.model
        if hasattr(wrapped, "set_requires_gradient_sync"):  # FSDP2
            wrapped.set_requires_gradient_sync(is_last)
        elif not is_last and hasattr(wrapped, "no_sync"):  # DDP
            return wrapped.no_sync()
        return nullcontext()


def micro_batches(batch: Batch, size: int | None) -> Iterator[tuple[Batch, float]]:
    """Consecutive pieces of at most `size` rows, each with its share of the rows; None: the batch itself."""
    num_rows = len(batch["sample_index"])
    if size is None or size >= num_rows:
        yield batch, 1.0
        return
    for start in range(0, num_rows, size):
        piece = {name: value[start : start + size] for name, value in batch.items()}
        yield piece, len(piece["sample_index"]) / num_rows
