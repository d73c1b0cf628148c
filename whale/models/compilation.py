"""How often torch may compile one piece of code."""

import torch


def allow_compilations() -> None:
    """Several sizes, precisions and modes of one block are no mistake; torch gives up at eight."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
