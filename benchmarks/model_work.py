"""The work that every model benchmark shares: one size, its FLOP, the matrix speed of this machine, interleaved clocks.

Size: L = 4 attention layers, D = 256, 8 heads, V = 1024, T = 16 frames, N = 64 tokens; float32, one thread.
"""

import time
from collections.abc import Callable, Mapping

import torch
from measure import Clock

from whale.models.dynamics.dynamics import Dynamics, DynamicsConfig
from whale.models.trunk.st_transformer import STTransformerConfig

LAYERS, WIDTH, HEADS, CODES, WINDOW, TOKENS, ACTION, Z = 4, 256, 8, 1024, 16, 64, 7, 256


def dynamics() -> Dynamics:
    """Our network at this size, seeded."""
    torch.manual_seed(0)
    trunk = STTransformerConfig(num_layers=LAYERS, num_heads=HEADS, d_model=WIDTH)
    config = DynamicsConfig(num_codes=CODES, action_size=ACTION, z_size=Z, behavior_conditioning=True, trunk=trunk)
    return Dynamics(config)


def batch(size: int, codes: int = CODES, tokens: int = TOKENS) -> dict[str, torch.Tensor]:
    """`size` segments of random tokens, actions and z, as the loader hands them over."""
    generator = torch.Generator().manual_seed(0)
    return {
        "tokens": torch.randint(0, codes, (size, WINDOW + 1, tokens), generator=generator),
        "action": torch.rand(size, WINDOW, ACTION, generator=generator) * 2 - 1,
        "action_valid": torch.ones(size, WINDOW, dtype=torch.bool),
        "num_frames": torch.full((size,), WINDOW + 1),
        "z_log_probs": torch.randn(size, WINDOW, 16, 16, generator=generator).log_softmax(-1),
        "uniform": torch.rand(size, WINDOW, 16, generator=generator),
        "sample_index": torch.arange(size),
    }


def forward_flops_per_token(frames_attended: float) -> float:
    """16 L D^2 + (L/2)(4 N D + 4 t D) + 2 V D, with t frames of temporal attention, multiply + add = 2."""
    attention = LAYERS / 2 * (4 * TOKENS * WIDTH + 4 * frames_attended * WIDTH)
    return 16 * LAYERS * WIDTH**2 + attention + 2 * CODES * WIDTH


def interleaved(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Clock]:
    """Every contender once a round, in turn, after one round to warm up: noise of the machine hits all alike.

    CPU time, not the clock's: another program that takes the core in between is no cost of the contender's.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, body in contenders.items():
            start = time.process_time()
            body()
            if number:
                times[name].append(time.process_time() - start)
    return {name: Clock.over(values) for name, values in times.items()}


def matrix_product() -> tuple[Callable[[], object], float]:
    """The MLP's own product, 1,024 tokens x D -> 4 D, and its FLOP: what "GEMM peak" means here."""
    rows, repeats = WINDOW * TOKENS, 20
    left, right = torch.randn(rows, WIDTH), torch.randn(WIDTH, 4 * WIDTH)
    out = torch.empty(rows, 4 * WIDTH)

    def product() -> None:
        for _ in range(repeats):
            torch.mm(left, right, out=out)

    return product, repeats * 2.0 * rows * WIDTH * 4 * WIDTH
