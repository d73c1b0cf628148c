"""What to do about a loss or gradient that is not finite: name the samples, keep what a replay needs, stop.

The model is left as it was before the step; its state goes to `replay/` beside the saved states, and the batch is
read again by its number. `replay` is the command that shows the step again, with `<step>` for its number.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from whale.common.errors import BadDataError
from whale.training.loop.communicator import Communicator

MAX_NAMED = 8
Autocast = Callable[[], AbstractContextManager]


def bad_samples(model: nn.Module, batch: dict[str, Tensor], autocast: Autocast = nullcontext) -> list[bool]:
    """For each row whether its own loss is not finite, in the precision of training; no gradient, row by row."""
    model.eval()
    with torch.no_grad(), autocast():
        rows = ({name: value[i : i + 1] for name, value in batch.items()} for i in range(len(batch["sample_index"])))
        return [not bool(torch.isfinite(model(row)[0])) for row in rows]


def refusal(
    step: int,
    logs: dict[str, Tensor],
    batch: dict[str, Tensor],
    model: nn.Module,
    communicator: Communicator,
    describe: Callable[[list[int]], list[str]],
    autocast: Autocast,
    replay: str,
) -> BadDataError:
    """The error that ends the run; every worker must call it, and each gets the samples of all."""
    flags = torch.tensor(bad_samples(model, batch, autocast), device=batch["sample_index"].device)
    bad = communicator.gather(flags.to(torch.uint8)).bool()
    samples = communicator.gather(batch["sample_index"])
    named = samples[bad] if bool(bad.any()) else samples
    lines = describe(named[:MAX_NAMED].tolist())
    sources = "".join(f"\n            {line}" for line in lines)
    finite = "" if bool(bad.any()) else " (each sample's own loss is finite: the gradient overflows)"
    return BadDataError(
        "the loss or its gradient is not finite",
        place=f"step {step}, samples {named.tolist()} of {samples.tolist()}{finite}{sources}",
        found=f"loss {logs['loss'].item()}, gradient norm {logs['grad_norm'].item()}",
        expected="finite numbers",
        remedy=f"the newest saved state is intact; look at the step again with: {replay.replace('<step>', str(step))}",
    )
