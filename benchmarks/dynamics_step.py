"""One training step of the dynamics: ours, a straightforward torch reference, and the machine's matrix speed.

    python benchmarks/dynamics_step.py [--rounds 20]

L4 D256 8 heads V1024, 16 frames of 64 tokens, batch 1, float32, one thread: forward, backward, clipping, AdamW; each
with its own optimizer, the reference with torch's AdamW as its defaults have it. Each runs in a process of its own, as
its training would: ours as our workers set up torch, the reference as torch is. They take turns, step by step. Both
start from the same weights and must give the same loss to 1e-4 first. FLOP: 3 x forward, causal attention counted in
full; percentages are of the MLP's own matrix product by torch, timed in the same rounds.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import machine, serve_steps, take_turns
from model_work import TOKENS, WINDOW, batch, dynamics, forward_flops_per_token, matrix_product
from reference_dynamics import ReferenceDynamics

from whale.models.behavior.categorical import sample
from whale.models.trunk.torch_process import set_up_torch
from whale.training.loop.optimizer import OptimizationConfig, make_optimizer

OPTIMIZATION = OptimizationConfig(
    batch_size=1, training_steps=1000, warmup_steps=0, max_lr=1e-4, min_lr=1e-5, weight_decay=0.0, grad_clip=1.0,
    save_every=1000, precision="float32", ema_decay=0.0,
)  # fmt: skip


def plain_optimizer(model: torch.nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=OPTIMIZATION.max_lr, betas=(0.9, 0.9), eps=1e-8, weight_decay=0.0)


def whale() -> tuple[float, Callable[[], object]]:
    set_up_torch(1)
    items, model = batch(1), dynamics()
    return model(items)[0].item(), stepper(model, make_optimizer(model, OPTIMIZATION), lambda: model(items)[0])


def reference() -> tuple[float, Callable[[], object]]:
    torch.set_num_threads(1)
    items, model = batch(1), ReferenceDynamics(dynamics())
    z = sample(items["z_log_probs"], items["uniform"]).flatten(2)
    return model.loss(items, z)[0].item(), stepper(model, plain_optimizer(model), lambda: model.loss(items, z)[0])


def products() -> tuple[float, Callable[[], object]]:
    torch.set_num_threads(1)
    product, flops = matrix_product()
    return flops, product


def stepper(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss_of: Callable[[], torch.Tensor]
) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZATION.grad_clip)
        optimizer.step()

    return step


CONTENDERS = {"matrix product": products, "whale": whale, "reference": reference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        serve_steps(*CONTENDERS[arguments.contender]())
        return
    said, clocks = take_turns(__file__, list(CONTENDERS), arguments.rounds)
    assert abs(said["whale"] - said["reference"]) < 1e-4, said
    tokens = WINDOW * TOKENS
    flops = 3 * tokens * forward_flops_per_token(WINDOW)
    peak = said["matrix product"] / clocks["matrix product"].best
    print(f"machine: {machine()}; torch {torch.__version__}")
    print(f"matrix product: {peak / 1e9:.1f} GFLOP/s on one thread; a step is {flops / 1e9:.1f} GFLOP")
    print(f"{'':12}{'ms best':>9}{'median':>9}{'tokens/s':>10}{'of peak':>9}")
    for name in ("whale", "reference"):
        clock = clocks[name]
        share = flops / clock.best / peak
        print(f"{name:12}{clock.best * 1e3:9.1f}{clock.median * 1e3:9.1f}{tokens / clock.best:10.0f}{share:9.0%}")
    best, median = (getattr(clocks["reference"], kind) / getattr(clocks["whale"], kind) for kind in ("best", "median"))
    print(f"whale / reference: {best:.2f}x of the best, {median:.2f}x of the medians (aim 1.15x); of peak: aim 60 %")


if __name__ == "__main__":
    main()
