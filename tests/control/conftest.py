"""A tiny task of the fleet: recordings of four policies at 16 x 16, tiny untrained models, a reward head."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models
import tiny_world
import torch
from tiny_optimization import write_recordings

from whale.models.trunk.folder import save_model
from whale.reward.reward import RewardHead, RewardHeadConfig


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    with tiny_models.one_thread():
        yield


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """`models`, `reward/head`, `shards/fleet_delta`."""
    root = tmp_path_factory.mktemp("optimize")
    tiny_world.write_models(root / "models")
    (root / "models/dynamics/member").mkdir()
    save_model(root / "models/dynamics/member", tiny_models.dynamics(seed=1))
    (root / "reward/head").mkdir(parents=True)
    torch.manual_seed(0)
    about = {"instructions": [""], "bounds": [-1.0, 1.0], "encoder": tiny_world.encoder()}  # tiny shards say no words
    head = RewardHead(RewardHeadConfig(feature_size=128, action_size=7, hidden=8, **about))
    save_model(root / "reward/head", head)
    write_recordings(root / "shards")
    return root


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
