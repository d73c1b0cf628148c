"""A tiny dataset with tokens and z on one grid, and tiny untrained models: 16 x 16 frames, 16 tokens, window 4."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from tiny_shards import write_tiny_shards

from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import SegmentConfig
from whale.data.segments.token_shards import write_manifest
from whale.data.storage.shards import ShardSet
from whale.evaluation.measuring.rollouts.heldout import Dataset, open_dataset
from whale.evaluation.measuring.rollouts.stack import Stack, load_stack
from whale.models.behavior.behavior import BehaviorConfig, BehaviorModel
from whale.models.dynamics.dynamics import Dynamics, DynamicsConfig
from whale.models.tokenizer.tokenizer import TokenizerConfig, VideoTokenizer
from whale.models.trunk.folder import save_model
from whale.models.trunk.st_transformer import STTransformerConfig
from whale.runtime.maps.segment_maps import Embedder, embed_shard, grid_of_shards, shard_tasks, tokenize_shard

TRUNK = STTransformerConfig(num_layers=2, num_heads=2, d_model=16)
SEGMENTS = SegmentConfig(window=4, phases=2)
TOKENIZER = TokenizerConfig(
    resolution=16, patch_size=4, num_codes=32, latent_dim=8, commitment=0.25, encoder=TRUNK, decoder=TRUNK
)
BEHAVIOR = BehaviorConfig(
    resolution=16, patch_size=8, action_size=7, num_categories=16, num_classes=16, kl_beta=0.1, unimix=0.01,
    log_std_range=[-2.0, 5.0], posterior=TRUNK, prior=TRUNK, policy=TRUNK,
)  # fmt: skip


def _dynamics(conditioned: bool) -> Dynamics:
    return Dynamics(
        DynamicsConfig(num_codes=32, action_size=7, z_size=256, behavior_conditioning=conditioned, trunk=TRUNK)
    )


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    with tiny_models.one_thread():
        yield


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    models = {
        "tokenizer": VideoTokenizer(TOKENIZER),
        "behavior": BehaviorModel(BEHAVIOR),
        "dynamics/full": _dynamics(True),
        "dynamics/without_z": _dynamics(False),
    }
    for name, model in models.items():
        (root / name).mkdir(parents=True)
        save_model(root / name, model)
    return root


@pytest.fixture(scope="session")
def stack(models_dir: Path) -> Stack:
    return load_stack(models_dir)


@pytest.fixture(scope="session")
def role_dir(tmp_path_factory, stack: Stack) -> Path:
    """Six episodes of 6 to 16 frames; this writer knows the split `train` only, which plays every part here."""
    root = tmp_path_factory.mktemp("role")
    shards_dir = write_tiny_shards(root / "shards" / "blocks", "blocks", [9, 6, 16, 13, 12, 14])
    grid = grid_of_shards(shards_dir, SEGMENTS)
    normalizer = ActionNormalizer.from_statistics(ShardSet.open(shards_dir).statistics)

    @torch.inference_mode()
    def encode(frames: np.ndarray) -> np.ndarray:
        return stack.tokenizer.encode(torch.from_numpy(frames).float() / 255).numpy().astype(np.uint16)

    @torch.inference_mode()
    def embed(frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(frames).float() / 255
        return stack.behavior.prior_log_probs(images, torch.from_numpy(actions)).numpy().astype(np.float16)

    embedder = Embedder(embed=embed, normalizer=normalizer)
    for kind, function, model in (("tokens", tokenize_shard, encode), ("z", embed_shard, embedder)):
        out = root / kind / "blocks"
        out.mkdir(parents=True)
        fragments = [function(model, task) for task in shard_tasks(shards_dir, out, SEGMENTS)]
        write_manifest(out, kind, "blocks", grid, "0" * 64, fragments)
    return root


@pytest.fixture(scope="session")
def dataset(role_dir: Path) -> Dataset:
    return open_dataset(role_dir, "blocks")
