"""One training step of the dynamics: ours, a straightforward torch reference, and the machine's matrix speed.

    python benchmarks/dynamics_step.py [--rounds 12]

L4 D256 8 heads V1024, 16 frames of 64 tokens, batch 1, float32, one thread: forward, backward, clipping, AdamW; each
with its own optimizer, the reference with torch's AdamW as its defaults have it. Both start from the same weights and
must give the same loss to 1e-4 first. FLOP: 3 x forward, causal attention counted in full; percentages are of the MLP's
own matrix product, timed in the same rounds.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import machine
from model_work import TOKENS, WINDOW, batch, dynamics, forward_flops_per_token, interleaved, matrix_product
from reference_dynamics import ReferenceDynamics

from whale.models.categorical import sample
from whale.training.optimizer import OptimizationConfig, make_optimizer

OPTIMIZATION = OptimizationConfig(
    batch_size=1, training_steps=1000, warmup_steps=0, max_lr=1e-4, min_lr=1e-5, weight_decay=0.0, grad_clip=1.0,
    save_every=1000, precision="float32", ema_decay=0.0,
)  # fmt: skip


def plain_optimizer(model: torch.nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=OPTIMIZATION.max_lr, betas=(0.9, 0.9), eps=1e-8, weight_decay=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    items, ours = batch(1), dynamics()
    reference = ReferenceDynamics(ours)
    z = sample(items["z_log_probs"], items["uniform"]).flatten(2)
    mine, theirs = ours(items)[0], reference.loss(items, z)[0]
    assert abs(mine.item() - theirs.item()) < 1e-4, (mine.item(), theirs.item())

    def stepper(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss_of: Callable[[], torch.Tensor]):
        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss_of().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZATION.grad_clip)
            optimizer.step()

        return step

    product, product_flops = matrix_product()
    clocks = interleaved(
        {
            "matrix product": product,
            "whale": stepper(ours, make_optimizer(ours, OPTIMIZATION), lambda: ours(items)[0]),
            "reference": stepper(reference, plain_optimizer(reference), lambda: reference.loss(items, z)[0]),
        },
        rounds,
    )
    tokens = WINDOW * TOKENS
    flops = 3 * tokens * forward_flops_per_token(WINDOW)
    peak = product_flops / clocks["matrix product"].best
    print(f"machine: {machine()}; torch {torch.__version__}")
    print(f"matrix product: {peak / 1e9:.1f} GFLOP/s on one thread; a step is {flops / 1e9:.1f} GFLOP")
    print(f"{'':12}{'ms best':>9}{'median':>9}{'tokens/s':>10}{'of peak':>9}")
    for name in ("whale", "reference"):
        clock = clocks[name]
        share = flops / clock.best / peak
        print(f"{name:12}{clock.best * 1e3:9.1f}{clock.median * 1e3:9.1f}{tokens / clock.best:10.0f}{share:9.0%}")
    ratio = clocks["reference"].best / clocks["whale"].best
    print(f"whale / reference: {ratio:.2f}x (aim 1.15x); of peak: aim 60 %")


if __name__ == "__main__":
    main()
