"""LeRobot EnvHub: make_env(n_envs) -> {suite: {task: vector environment}}. Needs whale-world-model[env]."""

from pathlib import Path

from whale.env.registration import make_env as _make_env


def make_env(n_envs=1, use_async_envs=False, **settings):
    return _make_env(Path(__file__).parent, n_envs, **settings)
