"""Peak memory of one training step: computed on paper for every size of Table 7, and checked on a network that fits.

    python benchmarks/training_memory.py

The estimate is the one of `whale plan` (weights, gradients, two AdamW moments, activations kept for the backward pass),
at batch 64 and micro-batch 8. The check runs steps of small networks, each in its own process, and compares what two
more segments add to its peak with the same arithmetic; what a process needs besides (libraries, workspaces) cancels.
"""

import argparse
import json
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import contender, machine

from whale.planning.estimate import KEPT_VALUES, TRAINING_BYTES

SIZES = {"whale-st": (12, 512, 1024), "small": (18, 512, 2048), "medium": (16, 768, 2048),
         "base": (24, 1024, 2048), "large": (24, 1536, 2048)}  # fmt: skip
WINDOW, TOKENS = 16, 256
CHECKED = {"L4 D128": (4, 128), "L4 D256": (4, 256), "L8 D256": (8, 256)}


def estimate(
    layers: int, width: int, codes: int, batch: int, value_bytes: int, checkpointed: bool
) -> tuple[float, float]:
    """(bytes of weights and optimizer, bytes of activations) of a step of `batch` segments."""
    weights = TRAINING_BYTES * (8 * layers * width**2 + codes * width + 256 * width)
    tokens = batch * WINDOW * TOKENS
    pairs = layers / 2
    kept = (
        pairs + KEPT_VALUES if checkpointed else pairs * KEPT_VALUES
    ) * width  # checkpointed: each pair's input, one pair whole
    return weights, tokens * kept * value_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(json.dumps(step(*CHECKED[arguments.contender], arguments.batch)))
        return
    print(f"machine: {machine()}")
    print("estimated GB of one training step, not run: weights + AdamW, then activations in bf16")
    print(f"{'':10}{'weights':>9}{'batch 64':>10}{'batch 8':>9}{'8, checkpointed':>17}{'in all':>8}")
    for name, (layers, width, codes) in SIZES.items():
        cells = [estimate(layers, width, codes, batch, 2, kept) for batch, kept in ((64, False), (8, False), (8, True))]
        weights = cells[0][0] / 1e9
        values = [activations / 1e9 for _, activations in cells]
        print(f"{name:10}{weights:9.2f}{values[0]:10.1f}{values[1]:9.1f}{values[2]:17.1f}{weights + values[2]:8.1f}")
    print("\nchecked: what 2 more segments add to the peak of a float32 step, in MB, against the same arithmetic")
    for name, (layers, width) in CHECKED.items():
        few, many = (contender(__file__, "--contender", name, "--batch", str(size))["peak_mb"] for size in (2, 4))
        expected = estimate(layers, width, 1024, 2, 4, False)[1] / 2**20
        added = many - few
        print(f"{name:10} measured {added:7.0f}   estimated {expected:7.0f}   {added / expected:.2f}x")


def step(layers: int, width: int, size: int) -> dict[str, float]:
    """Peak resident memory of this process after two steps of `size` segments."""
    import torch
    from model_work import batch

    from whale.models.dynamics.dynamics import Dynamics, DynamicsConfig
    from whale.models.trunk.st_transformer import STTransformerConfig

    torch.set_num_threads(1)
    items = batch(size, tokens=TOKENS)
    trunk = STTransformerConfig(num_layers=layers, num_heads=4, d_model=width)
    config = DynamicsConfig(num_codes=1024, action_size=7, z_size=256, behavior_conditioning=True, trunk=trunk)
    model = Dynamics(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        model(items)[0].backward()
        optimizer.step()
    return {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
