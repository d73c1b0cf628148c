"""Imagining 15 frames, tokens only: cached, growing window, and the padded full window that open implementations use.

    python benchmarks/rollout.py [--rounds 8] [--batch 1]

Same size and weights as dynamics_step.py, one thread, argmax, z fixed. `padded`: every step runs the whole window of
16 frames through the straightforward reference (one pass a frame); `growing`: only the frames so far, by our network.
All three must choose the same tokens first. Cached FLOP: each new frame once, attending to what came before.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import machine
from model_work import CODES, TOKENS, WINDOW, Z, batch, dynamics, forward_flops_per_token, interleaved, matrix_product
from reference_dynamics import ReferenceDynamics

FRAMES = WINDOW - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ours = dynamics().eval()
    reference = ReferenceDynamics(ours).eval()
    items = batch(arguments.batch)
    start, actions = items["tokens"][:, :1], items["action"]
    z = torch.zeros(arguments.batch, WINDOW, Z)

    @torch.inference_mode()
    def cached() -> torch.Tensor:
        cache, last, tokens = ours.empty_cache(arguments.batch, TOKENS, WINDOW), start, [start]
        for frame in range(FRAMES):
            logits, cache = ours.extend(last, actions[:, frame : frame + 1], z[:, :1], cache)
            last = logits.argmax(-1)[:, None]
            tokens.append(last)
        return torch.cat(tokens, dim=1)

    @torch.inference_mode()
    def growing() -> torch.Tensor:
        tokens = start
        for frame in range(FRAMES):
            logits = ours.logits(tokens, actions[:, : frame + 1], z[:, : frame + 1])[:, -1]
            tokens = torch.cat([tokens, logits.argmax(-1)[:, None]], dim=1)
        return tokens

    @torch.inference_mode()
    def padded() -> torch.Tensor:
        tokens = torch.zeros(arguments.batch, WINDOW, TOKENS, dtype=torch.int64)
        tokens[:, :1] = start
        for frame in range(FRAMES):
            tokens[:, frame + 1] = reference.logits(tokens, actions, z)[:, frame].argmax(-1)
        return tokens

    found = [body() for body in (cached, growing, padded)]
    equal = [(each == found[0]).float().mean().item() for each in found[1:]]
    assert min(equal) > 0.99, f"not the same work: {equal} of {CODES} codes agree"
    product, product_flops = matrix_product()
    clocks = interleaved(
        {"matrix product": product, "cached": cached, "growing": growing, "padded": padded}, arguments.rounds
    )
    tokens = arguments.batch * TOKENS
    flops = sum(tokens * forward_flops_per_token(frame + 1) for frame in range(FRAMES))
    peak = product_flops / clocks["matrix product"].best
    print(f"machine: {machine()}; torch {torch.__version__}")
    print(
        f"{FRAMES} frames after 1, batch {arguments.batch}; cached FLOP {flops / 1e9:.2f} G, peak {peak / 1e9:.1f} G/s"
    )
    print(f"{'':10}{'ms best':>9}{'median':>9}{'frames/s':>10}{'slower':>8}")
    for name in ("cached", "growing", "padded"):
        clock = clocks[name]
        frames = arguments.batch * FRAMES / clock.best
        print(
            f"{name:10}{clock.best * 1e3:9.1f}{clock.median * 1e3:9.1f}{frames:10.1f}"
            f"{clock.best / clocks['cached'].best:7.1f}x"
        )
    share = flops / clocks["cached"].best / peak
    ratio = clocks["padded"].best / clocks["cached"].best
    print(f"cached: {share:.0%} of peak (aim 40 %); padded / cached {ratio:.1f}x (aim 10x)")


if __name__ == "__main__":
    main()
