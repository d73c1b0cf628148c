"""What may be put around a model before it trains: recomputed activations, compiled blocks, weights sharded."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from whale.common.errors import ConfigError
from whale.models.trunk.folder import PublishedModel
from whale.models.trunk.st_transformer import STBlock


def recompute_activations(model: nn.Module) -> None:
    """Keep only the input of each block and run it again in the backward pass: less memory, a third more arithmetic.

    Names of parameters stay as they are; results are bit-equal, for a block draws nothing at random.
    """
    for block in _blocks(model):
        _wrap_forward(block)


def allow_compilations() -> None:
    """Several sizes, precisions and modes of one block are no mistake; torch gives up at eight."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Compile each block, whose code all blocks of a model share; what surrounds them stays as it is.

    Shapes are taken as they come: a training has few, and code for any shape is slower.
    """
    allow_compilations()
    for block in _blocks(model):
        block.compile(fullgraph=True, dynamic=False, backend=backend)


def shard(model: PublishedModel) -> nn.Module:
    """FSDP2: weights, gradients and optimizer state of each block lie in pieces on the workers.

    Raises ConfigError for a model that says why it cannot be.
    """
    from torch.distributed.fsdp import fully_shard

    if model.needs_whole_weights:
        raise ConfigError(
            "this model cannot be sharded",
            place="execution.sharding",
            found="fsdp",
            expected=f"ddp: {model.needs_whole_weights}",
        )
    for block in _blocks(model):
        fully_shard(block)
    fully_shard(model)  # in place
    return model


def _blocks(model: nn.Module) -> list[STBlock]:
    return [module for module in model.modules() if isinstance(module, STBlock)]


def _wrap_forward(block: STBlock) -> None:
    forward = block.forward

    def recomputed(x_BTND):
        return checkpoint(forward, x_BTND, use_reentrant=False) if block.training else forward(x_BTND)

    block.forward = recomputed  # type: ignore[method-assign]
