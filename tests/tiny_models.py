"""Networks and batches small enough for a test: 16x16 frames, 16 tokens, 64 codes, window 4."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from whale.baselines.rssm.rssm import RSSM, RSSMConfig
from whale.models.behavior.behavior import BehaviorConfig, BehaviorModel
from whale.models.dynamics.dynamics import Dynamics, DynamicsConfig
from whale.models.tokenizer.tokenizer import TokenizerConfig, VideoTokenizer
from whale.models.trunk.st_transformer import STTransformerConfig

SIZE = STTransformerConfig(num_layers=2, num_heads=2, d_model=32)
WINDOW, RESOLUTION, NUM_CODES, ACTION = 4, 16, 64, 7


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiny tensors: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tokenizer_config(**changes) -> TokenizerConfig:
    values = {"resolution": 16, "patch_size": 4, "num_codes": NUM_CODES, "latent_dim": 8, "commitment": 0.25}
    return TokenizerConfig(**(values | {"encoder": SIZE, "decoder": SIZE} | changes))


def tokenizer(seed: int = 0, **changes) -> VideoTokenizer:
    torch.manual_seed(seed)
    return VideoTokenizer(tokenizer_config(**changes))


def behavior(seed: int = 0, **changes) -> BehaviorModel:
    torch.manual_seed(seed)
    values = {"resolution": 16, "patch_size": 8, "action_size": ACTION, "num_categories": 16, "num_classes": 16}
    values |= {"kl_beta": 0.1, "unimix": 0.01, "log_std_range": [-2.0, 5.0]}
    return BehaviorModel(BehaviorConfig(**(values | {"posterior": SIZE, "prior": SIZE, "policy": SIZE} | changes)))


def dynamics(seed: int = 0, **changes) -> Dynamics:
    torch.manual_seed(seed)
    values = {"num_codes": NUM_CODES, "action_size": ACTION, "z_size": 256, "behavior_conditioning": True}
    return Dynamics(DynamicsConfig(**(values | {"trunk": SIZE} | changes)))


def rssm_config(**changes) -> RSSMConfig:
    values = {"resolution": 16, "action_size": ACTION, "channels": [8, 16], "hidden": 32, "state_size": 24}
    values |= {"num_categories": 4, "num_classes": 6, "unimix": 0.01, "mean_residual": False}
    return RSSMConfig(**(values | {"kl_prior": 1.0, "kl_posterior": 0.1, "free_nats": 1.0} | changes))


def rssm(seed: int = 0, **changes) -> RSSM:
    torch.manual_seed(seed)
    return RSSM(rssm_config(**changes))


def pixel_batch(size: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "frames": torch.randint(0, 256, (size, WINDOW + 1, 16, 16, 3), dtype=torch.uint8, generator=generator),
        "action": torch.rand(size, WINDOW, ACTION, generator=generator) * 2 - 1,
        "action_valid": torch.ones(size, WINDOW, dtype=torch.bool),
        "action_mask": torch.ones(size, ACTION, dtype=torch.bool),
        "num_frames": torch.full((size,), WINDOW + 1),
        "uniform": torch.rand(size, WINDOW, 16, generator=generator),
        "sample_index": torch.arange(size),
    }


def token_batch(size: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch = pixel_batch(size, seed)
    del batch["frames"]
    batch["tokens"] = torch.randint(0, NUM_CODES, (size, WINDOW + 1, 16), generator=generator)
    batch["z_log_probs"] = torch.randn(size, WINDOW, 16, 16, generator=generator).log_softmax(-1)
    return batch
