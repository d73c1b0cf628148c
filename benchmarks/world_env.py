"""Frames a second of the world as an environment: one alone, and 16 in one batch; in one process, in alternation.

    python benchmarks/world_env.py FOLDER [ROBOT]      # FOLDER: what whale.load takes

The ratio is the figure: on a busy machine both are slower alike.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

import whale
from whale.env.world_env import WorldEnv, WorldVectorEnv
from whale.worlds.starts import Start

ENVS, STEPS, ROUNDS = 16, 16, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("robot", nargs="?")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world = whale.load(options.folder, options.robot, checking="off")
    starts = list(world.starts) or [blank(world)]
    one = WorldEnv(world, horizon=STEPS + 1, starts=starts)
    many = WorldVectorEnv(world, ENVS, horizon=STEPS + 1, starts=starts)
    rates: dict[str, list[float]] = {"one": [], "many": []}
    for round_ in range(ROUNDS + 1):
        alone, batched = frames_per_second(one, 1), frames_per_second(many, ENVS)
        if round_:  # the first warms up
            rates["one"].append(alone)
            rates["many"].append(batched)
    ratio = statistics.median(b / a for a, b in zip(rates["one"], rates["many"], strict=True))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(f"one: {middle['one']:.0f} frames/s; {ENVS} in a batch: {middle['many']:.0f} frames/s; ratio {ratio:.1f}")


def frames_per_second(env, count: int) -> float:
    """STEPS steps after a reset, resting actions with the gripper open."""
    action = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    actions = action if count == 1 else np.tile(action, (count, 1))
    env.reset(seed=0)
    began = time.perf_counter()
    for _ in range(STEPS):
        env.step(actions)
    return STEPS * count / (time.perf_counter() - began)


def blank(world) -> Start:
    """For a folder without recorded starts: speed does not look at pictures."""
    side = world.resolution
    return Start("blank", "", np.zeros((1, side, side, 3), np.uint8), np.zeros((1, 7), np.float32))


if __name__ == "__main__":
    main()
