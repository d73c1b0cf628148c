"""Whale-X base at its real size on one GPU: training step, memory, rollouts, retracing, beside the card's own speed.

    python benchmarks/whale_x.py [--only training|rollout|retracing] [--size full|small|medium|large] [--json FILE]

Sizes are those of profiles/whale-x.yaml; weights and data are random, for neither changes the time. The floor is
arithmetic over the speed of an 8192 x 8192 x 8192 bfloat16 product, measured first. Times are of the device: medians
between events, after warming up. On a machine without a GPU it says so and ends.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.captured import CapturedWorld
from benchmarks.inference import compile_steps, round_matrices
from benchmarks.model_work import ACTION, WINDOW, batch
from benchmarks.retracing import small_world
from whale.common.config import load_yaml
from whale.evaluation.uncertainty.estimation.retracing import retraced
from whale.models.behavior.behavior import BehaviorConfig, BehaviorModel
from whale.models.dynamics.dynamics import Dynamics, DynamicsConfig
from whale.models.tokenizer.tokenizer import TokenizerConfig, VideoTokenizer
from whale.models.trunk.st_transformer import STTransformerConfig
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import Query
from whale.models.world.rollout import rollout as imagined
from whale.training.loop.gradient_step import GradientStep
from whale.training.loop.optimizer import OptimizationConfig, make_optimizer
from whale.training.loop.wrapping import compile_blocks, recompute_activations

PROFILE = load_yaml(ROOT / "profiles/whale-x.yaml")
CODES, TOKENS, GLOBAL_BATCH = 2048, 256, 64
Row = dict[str, str | float]


def device_ms(body: Callable[[], object], repeats: int, warm: int = 2) -> float:
    """Median milliseconds on the device."""
    for _ in range(warm):
        body()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        body()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def matrix_peak() -> float:
    """FLOP/s of a large bfloat16 product of random numbers."""
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / (device_ms(lambda: left @ right, 10) / 1e3)


def trunk(size: str) -> STTransformerConfig:
    return STTransformerConfig(**PROFILE["train_dynamics"][size]["size"])


def dynamics(size: str) -> Dynamics:
    torch.manual_seed(0)
    config = {"num_codes": CODES, "action_size": ACTION, "z_size": 256, "behavior_conditioning": True}
    with torch.device("cuda"):
        return Dynamics(DynamicsConfig(**config, trunk=trunk(size)))


def step_flops(size: str) -> float:
    """Of a training step: 3 x tokens x (16 L D^2 + (L/2)(4 N D + 4 T D) + 2 V D)."""
    layers, width = trunk(size).num_layers, trunk(size).d_model
    forward = 16 * layers * width**2 + layers / 2 * 4 * width * (TOKENS + WINDOW) + 2 * CODES * width
    return 3 * GLOBAL_BATCH * WINDOW * TOKENS * forward


def training(size: str, peak: float, repeats: int, variants: list[tuple[str, int, bool, bool]]) -> list[Row]:
    """Steps of the global batch of 64 as `fit` takes them: micro-batches, clipping, AdamW, bfloat16."""
    torch.use_deterministic_algorithms(True)
    rows: list[Row] = []
    config = OptimizationConfig.model_validate(PROFILE["train_dynamics"][size]["optimization"])
    items = {name: value.to("cuda") for name, value in batch(GLOBAL_BATCH, CODES, TOKENS).items()}
    flops = step_flops(size)
    for name, micro_batch, is_compiled, is_recomputed in variants:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        model = dynamics(size)
        if is_recomputed:
            recompute_activations(model)
        if is_compiled:
            compile_blocks(model)
        step = GradientStep(model, model, make_optimizer(model, config), config, micro_batch)
        started = time.perf_counter()
        losses = []

        def body(step=step, losses=losses) -> None:
            logs, is_finite = step.gradients(items)
            assert is_finite
            losses.append(logs["loss"])
            step.update(6000)

        try:
            body()
        except torch.OutOfMemoryError:
            print(f"{name}, micro-batch {micro_batch}: out of memory", flush=True)
            continue
        first = time.perf_counter() - started
        milliseconds = device_ms(body, repeats, warm=1)
        rows.append(
            {
                "what": f"{size}: {name}, micro-batch {micro_batch}",
                "ms": milliseconds,
                "of_floor": flops / peak * 1e3 / milliseconds,
                "mfu_790": flops / 790e12 * 1e3 / milliseconds,
                "mfu_989": flops / 989e12 * 1e3 / milliseconds,
                "tokens_per_s": GLOBAL_BATCH * WINDOW * TOKENS / milliseconds * 1e3,
                "memory_gb": torch.cuda.max_memory_allocated() / 1e9,
                "first_step_s": first,
                "loss": float(losses[0]),
            }
        )
        print(rows[-1], flush=True)
        del model, step, body, losses
    torch.use_deterministic_algorithms(False)
    return rows


def world(size: str, precision: str = "bfloat16") -> LearnedWorld:
    """Tokenizer, prior and dynamics of Whale-X on the device, random weights."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        tokenizer = VideoTokenizer(TokenizerConfig(**PROFILE["train_tokenizer"]["model"]))
        behavior = BehaviorModel(BehaviorConfig(**PROFILE["train_behavior"]["model"]))
    parts = [part.eval() for part in (tokenizer, behavior, dynamics(size))]
    if precision == "bfloat16":
        for part in parts:
            round_matrices(part)
    return LearnedWorld(*parts, window=WINDOW, precision=precision)


def frames_and_actions(rows: int, horizon: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (rows, 1, 256, 256, 3), dtype=torch.uint8, generator=generator)
    return frames.to("cuda"), (torch.rand(rows, horizon, ACTION, generator=generator) * 2 - 1).to("cuda")


def tokens_only(model: LearnedWorld, rows: int, horizon: int) -> Callable[[], object]:
    """Dynamics alone, z fixed: no prior, no decoder, so the pixels are never made."""
    first = torch.randint(0, CODES, (rows, 1, TOKENS), device="cuda")
    actions = torch.rand(rows, horizon, ACTION, device="cuda")
    z = torch.zeros(rows, 1, 256, device="cuda")

    @torch.inference_mode()
    def body() -> None:
        cache, last = model.dynamics.empty_cache(rows, TOKENS, WINDOW), first
        with torch.autocast("cuda", torch.bfloat16):
            for number in range(horizon):
                logits, cache = model.dynamics.extend(last, actions[:, number : number + 1], z, cache)
                last = logits.argmax(-1)[:, None]

    return body


def rollout(size: str, repeats: int) -> list[Row]:
    """15 frames after 1 within a window, and 64 over several."""
    rows: list[Row] = []

    def add(name: str, count: int, horizon: int, body: Callable[[], object]) -> None:
        milliseconds = device_ms(body, repeats, warm=3)
        rate = count * horizon / milliseconds * 1e3
        rows.append({"what": f"{size}: {name}", "ms": milliseconds, "frames_per_s": rate})
        print(rows[-1], flush=True)

    eager = world(size)
    for count in (32, 1):
        frames, actions = frames_and_actions(count, 15)
        add(f"eager, batch {count}, tokens only", count, 15, tokens_only(eager, count, 15))
        add(f"eager, batch {count}, with decode", count, 15, lambda f=frames, a=actions: imagined(eager, f, a, 15))
    expected = imagined(eager, *frames_and_actions(1, 40), 40)
    captured = CapturedWorld(eager, 1)
    found = imagined(captured, *frames_and_actions(1, 40), 40)
    print("captured equals eager:", torch.equal(found["frames"], expected["frames"]), flush=True)
    frames, actions = frames_and_actions(1, 15)
    add("captured, batch 1, with decode", 1, 15, lambda: imagined(captured, frames, actions, 15))
    del captured
    torch.cuda.empty_cache()
    for part in (eager.tokenizer, eager.behavior, eager.dynamics):
        compile_steps(part)
    started = time.perf_counter()
    add("compiled, batch 32, tokens only", 32, 15, tokens_only(eager, 32, 15))
    frames, actions = frames_and_actions(32, 15)
    add("compiled, batch 32, with decode", 32, 15, lambda: imagined(eager, frames, actions, 15))
    print(f"compiling took up to {time.perf_counter() - started:.0f} s", flush=True)
    long_frames, long_actions = frames_and_actions(32, 64)
    add("compiled, batch 32, with decode, 64 frames", 32, 64, lambda: imagined(eager, long_frames, long_actions, 64))
    captured = CapturedWorld(eager, 1)
    one_frame, some_actions = frames_and_actions(1, 15)
    add("compiled and captured, batch 1, with decode", 1, 15, lambda: imagined(captured, one_frame, some_actions, 15))
    one_frame, many_actions = frames_and_actions(1, 64)
    add("compiled and captured, batch 1, 64 frames", 1, 64, lambda: imagined(captured, one_frame, many_actions, 64))
    return rows


def retracing(size: str, repeats: int) -> list[Row]:
    """{1, 2, 3} after 8 frames, batch 8, beside a plain step: of a small world, which waits for calls, and of ours."""
    rows: list[Row] = []
    small = small_world()
    big = world(size)
    moved = [part.to("cuda") for part in (small.tokenizer, small.behavior, small.dynamics)]
    worlds = {"64 pixels, D 128, float32": LearnedWorld(*moved, WINDOW), f"whale-x {size}, bfloat16": big}
    for name, model in worlds.items():
        side = model.tokenizer.config.resolution
        generator = torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (8, 8, side, side, 3), dtype=torch.uint8, generator=generator).to("cuda")
        actions = (torch.rand(8, 8, ACTION, generator=generator) * 2 - 1).to("cuda")
        state = model.start(frames, actions[:, :-1])
        bodies = {"plain step": lambda m=model, s=state, a=actions: m.step(s, a[:, -1])}
        for form in ("batched", "looped"):
            bodies[form] = lambda m=model, s=state, a=actions, f=form: retraced(
                Query(m, s, a[:, -1]), (1, 2, 3), form=f
            )
        times = {what: device_ms(body, 2 * repeats) for what, body in bodies.items()}
        for what, milliseconds in times.items():
            ratio = milliseconds / times["plain step"]
            rows.append({"what": f"retracing, {name}: {what}", "ms": milliseconds, "plain_steps": ratio})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["training", "rollout", "retracing"])
    parser.add_argument("--size", default="full")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU here: not run")
    print(f"{torch.cuda.get_device_name()}; torch {torch.__version__}")
    peak = matrix_peak()
    print(f"matrix product: {peak / 1e12:.0f} TFLOP/s; a step is {step_flops(options.size) / 1e12:.1f} TFLOP")
    found: list[Row] = [{"what": "matrix product", "tflops": peak / 1e12}]
    if options.only in (None, "training"):
        variants = [("compiled", 8, True, False), ("compiled", 16, True, False), ("eager", 8, False, False)]
        variants += [("compiled, recomputed", 8, True, True), ("compiled", 32, True, False)]
        found += training(options.size, peak, options.repeats, variants)
    if options.only in (None, "rollout"):
        found += rollout(options.size, options.repeats)
    if options.only in (None, "retracing"):
        found += retracing(options.size, options.repeats)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
