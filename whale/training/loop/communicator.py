"""What one worker knows about the others; a single process is the case of one.

Shapes: first axis = this worker's slice of the global batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Communicator:
    """Rank and size of the process group, and the device of its collectives, which do nothing for one worker."""

    rank: int = 0
    world_size: int = 1
    device: torch.device | str = "cpu"  # NCCL moves nothing that lies on the CPU

    @property
    def is_lead(self) -> bool:
        """True on the worker that writes files and logs."""
        return self.rank == 0

    def mean(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Average scalars over workers, in one collective."""
        stacked = torch.stack([value.detach().float() for value in values.values()])
        if self.world_size > 1:
            dist.all_reduce(stacked)
            stacked /= self.world_size
        return dict(zip(values, stacked.tolist(), strict=True))

    def sum(self, value: Tensor) -> Tensor:
        """Sum over workers, in place."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value

    def gather(self, value: Tensor) -> Tensor:
        """Concatenate the workers' slices along the first axis, in rank order: the global batch's order."""
        if self.world_size == 1:
            return value
        parts = [torch.empty_like(value) for _ in range(self.world_size)]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    def any_soon(self, flag: bool) -> Callable[[], Tensor | bool]:
        """Ask whether `flag` is true on any worker, without waiting; every worker must call what this returns.

        The answer of a group lies on the device: who looks at it waits for the device, so look at it with what else
        is to be read there.
        """
        if self.world_size == 1:
            return lambda: flag
        value = torch.full((), float(flag), device=self.device)  # written there; a number made here would be copied
        asked = dist.all_reduce(value, async_op=True)

        def answer() -> Tensor:
            asked.wait()
            return value > 0

        return answer

    def agree(self, text: str | None) -> str | None:
        """The lead's `text`, on every worker."""
        if self.world_size == 1:
            return text
        carried = [text]
        dist.broadcast_object_list(carried, src=0, device=torch.device(self.device))
        return carried[0]
