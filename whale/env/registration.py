"""Ids for `gymnasium.make` and the entry point of LeRobot's EnvHub.

gymnasium.make("whale.env.registration:whale/World-v0", world="world-bundle")
gymnasium.make_vec("whale.env.registration:whale/World-v0", num_envs=16, world="world-bundle",
                   vectorization_mode="vector_entry_point")
"""

from pathlib import Path
from typing import Any

import gymnasium

from whale.env.world_env import WorldVectorEnv

ID = "whale/World-v0"

if ID not in gymnasium.registry:
    gymnasium.register(
        ID, entry_point="whale.env.world_env:WorldEnv", vector_entry_point="whale.env.world_env:WorldVectorEnv",
        order_enforce=False, disable_env_checker=True,
    )  # fmt: skip


def make_env(folder: Path, n_envs: int = 1, **settings: Any) -> dict[str, dict[int, WorldVectorEnv]]:
    """What EnvHub expects of a repository's `env.py`: suite -> task number -> a vector environment."""
    return {"whale_world": {0: WorldVectorEnv(folder, n_envs, **settings)}}
