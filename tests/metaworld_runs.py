"""The smallest collection of Meta-World, and runs of its simulator for tests.

Whoever draws does so in a process of its own (`apart` of tests/sim/metaworld/conftest.py): Mesa and TensorFlow bring an
LLVM each, and a process that draws first and imports TensorFlow later ends with a segmentation fault.
"""

import hashlib

import numpy as np

from whale.sim.metaworld.collect import Chunk, MetaworldConfig, simulate
from whale.sim.metaworld.simulator.studio import Studio, studio

CROSS = {"cross_a": "faucet-close", "cross_b": "drawer-close", "cross_c": "faucet-open"}
SIZES = {"train_episodes": 1, "val_episodes": 1, "test_episodes": 1, "frames": 6, "action_repeat": 2}
SIZES |= {"camera": "corner4", "resolution": 16, "supersample": 2, "image": "png", "episodes_per_file": 4}


def make_config(**changes) -> MetaworldConfig:
    values = {"tasks": {"plate-slide": CROSS}} | SIZES | changes
    return MetaworldConfig.parse(values, file="test")


def episode(policy: str = "noisy_low", split: str = "train", number: int = 0, **changes) -> dict:
    """One episode of plate-slide, as it is simulated."""
    chunk = Chunk(split, "plate-slide", policy, number, number + 1)
    return next(iter(simulate(chunk, make_config(**changes), seed=0)))


def digest(**arguments) -> str:
    """Of everything that an episode records at its steps."""
    found, made = hashlib.sha256(), episode(**arguments)
    for value in (*made["steps"]["observation"].values(), made["steps"]["action"], made["steps"]["reward"]):
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def digests_after_others() -> list[str]:
    """Of one episode: first, after another one, and in a fresh simulator; then those of three others."""
    first = digest()
    episode(policy="random", number=3)
    after = digest()
    studio.cache_clear()
    return [first, after, digest(), digest(number=1), digest(split="val"), digest(policy="expert")]


def replayed(made: dict, repeat: int) -> tuple[np.ndarray, np.ndarray, bool, np.ndarray]:
    """Observations, rewards, success and last picture of the recorded actions, from the recorded seed."""
    stage = Studio("plate-slide", "corner4", 16, 2)
    observations, rewards, succeeded = [stage.reset(int(made["episode_metadata"]["seed"]))], [], False
    for action in made["steps"]["action"][:-1]:
        observation, reward, success = stage.step(action, repeat)
        observations.append(observation)
        rewards.append(reward)
        succeeded |= success
    return np.array(observations, np.float32), np.array([*rewards, 0.0], np.float32), succeeded, stage.picture()


def picture(resolution: int, supersample: int) -> np.ndarray:
    """A first frame."""
    stage = Studio("plate-slide", "corner4", resolution, supersample)
    stage.reset(5)
    return stage.picture()
