"""Arithmetic of one forward pass, in FLOP per token: the trunk's is that of whale/evaluation/scaling/flops.py.

Letters: D d_model, N tokens per frame, T frames, P patch size.
"""

from itertools import pairwise

from whale.baselines.rssm.networks import KERNEL, side_of
from whale.baselines.rssm.rssm import RSSMConfig
from whale.evaluation.scaling.flops import TRAINING, dynamics, trunk
from whale.models.behavior.behavior import BehaviorConfig
from whale.models.tokenizer.tokenizer import TokenizerConfig
from whale.models.trunk.st_transformer import STTransformerConfig

__all__ = ["TRAINING", "behavior", "behavior_tokens", "decoder", "dynamics", "encoder", "prior", "trunk"]


def encoder(config: TokenizerConfig, num_frames: int) -> float:
    """FLOP per token, pixels to latents; the nearest code is left out (0.03 %)."""
    return _patches(config.patch_size, config.encoder) + trunk(config.encoder, config.num_tokens, num_frames)


def decoder(config: TokenizerConfig, num_frames: int) -> float:
    """FLOP per token, latents to pixels."""
    return _patches(config.patch_size, config.decoder) + trunk(config.decoder, config.num_tokens, num_frames)


def prior(config: BehaviorConfig, num_frames: int) -> float:
    """FLOP per token of the only behavior network that is deployed."""
    return _history_encoder(config, config.prior, num_frames)


def posterior(config: BehaviorConfig, num_frames: int) -> float:
    """FLOP per token of the network that sees a whole segment."""
    return _history_encoder(config, config.posterior, num_frames)


def policy(config: BehaviorConfig, num_frames: int) -> float:
    """FLOP per token of the network that explains actions with z."""
    return _history_encoder(config, config.policy, num_frames)


def behavior(config: BehaviorConfig, num_frames: int) -> float:
    """FLOP per token of posterior, prior and policy together."""
    return sum(network(config, num_frames) for network in (posterior, prior, policy))


def behavior_tokens(config: BehaviorConfig) -> int:
    """Patches per frame."""
    return (config.resolution // config.patch_size) ** 2


def rssm(config: RSSMConfig) -> float:
    """FLOP per frame of a recurrent model that sees it: encoder, recurrent step, prior, posterior, decoder."""
    size, hidden, z = config.state_size, config.hidden, config.num_categories * config.num_classes
    widths, side = [3, *config.channels], config.resolution
    convolutions = 0
    for fan_in, fan_out in pairwise(widths):
        side //= 2
        convolutions += KERNEL**2 * fan_in * fan_out * side**2
    encoded = config.channels[-1] * side_of(config.resolution, config.channels) ** 2
    recurrent = (z + config.action_size) * hidden + (hidden + size) * 3 * size
    heads = (size + size + encoded) * hidden + 2 * hidden * z
    return 2.0 * (2 * convolutions + recurrent + heads + (size + z) * encoded)


def _history_encoder(config: BehaviorConfig, size: STTransformerConfig, num_frames: int) -> float:
    return _patches(config.patch_size, size) + trunk(size, behavior_tokens(config), num_frames)


def _patches(patch_size: int, size: STTransformerConfig) -> float:
    """One linear map between 3 P^2 pixel values and the trunk."""
    return 2 * 3 * patch_size**2 * size.d_model
