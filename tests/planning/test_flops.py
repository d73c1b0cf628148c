"""Arithmetic of a training step at known sizes, and parameters of the paper's tables."""

import pytest
import tiny_models as tiny

from whale.models.behavior.behavior import BehaviorConfig
from whale.models.tokenizer.tokenizer import TokenizerConfig
from whale.models.trunk.st_transformer import STTransformerConfig
from whale.planning import flops
from whale.training.loop.counting import training_flops

NUM_TOKENS, WINDOW = 256, 16
STEP_TOKENS = 64 * WINDOW * NUM_TOKENS


def trunk(layers, width, heads):
    return STTransformerConfig(num_layers=layers, num_heads=heads, d_model=width)


SIZES = {
    "st": (trunk(12, 512, 8), 1024, 54.7, 43.0),
    "x-small": (trunk(18, 512, 8), 2048, 82.6, 65.0),
    "x-medium": (trunk(16, 768, 16), 2048, 160.8, 126.5),
    "x-base": (trunk(24, 1024, 16), 2048, 420.2, 330.5),
    "x-large": (trunk(24, 1536, 12), 2048, 932.3, 733.2),
}
X_TOKENIZER = TokenizerConfig(
    resolution=256,
    patch_size=16,
    num_codes=2048,
    latent_dim=32,
    commitment=0.25,
    encoder=trunk(12, 512, 8),
    decoder=trunk(20, 1024, 16),
)
X_BEHAVIOR = BehaviorConfig(
    resolution=256,
    patch_size=32,
    action_size=7,
    num_categories=16,
    num_classes=16,
    kl_beta=0.1,
    unimix=0.01,
    log_std_range=[-2.0, 5.0],
    posterior=trunk(12, 768, 12),
    prior=trunk(8, 512, 8),
    policy=trunk(12, 768, 12),
)


@pytest.mark.parametrize("name", SIZES)
def test_dynamics_flops_are_those_of_the_table(name):
    size, num_codes, mega_per_token, tera_per_step = SIZES[name]
    forward = flops.dynamics(size, num_codes, NUM_TOKENS, WINDOW)
    assert forward / 1e6 == pytest.approx(mega_per_token, rel=0.002)
    assert flops.TRAINING * forward * STEP_TOKENS / 1e12 == pytest.approx(tera_per_step, rel=0.002)


def test_tokenizer_flops_are_those_of_the_table():
    encode, decode = flops.encoder(X_TOKENIZER, WINDOW), flops.decoder(X_TOKENIZER, WINDOW)
    assert (encode + decode) / 1e6 == pytest.approx(402.7, abs=0.05)
    assert flops.TRAINING * (encode + decode) * STEP_TOKENS / 1e12 == pytest.approx(316.7, abs=0.05)
    assert (encode * NUM_TOKENS / 1e9, decode * NUM_TOKENS / 1e9) == pytest.approx((13.9, 89.2), abs=0.06)


def test_behavior_flops_are_those_of_the_table_plus_the_patch_stems():
    """The table counts the trunks alone; the stems add 4.8 % (prior: 9 %)."""
    tokens = flops.behavior_tokens(X_BEHAVIOR)
    sizes = (X_BEHAVIOR.posterior, X_BEHAVIOR.prior, X_BEHAVIOR.policy)
    step = flops.TRAINING * 64 * WINDOW * tokens / 1e12
    trunks = step * sum(flops.trunk(size, tokens, WINDOW) for size in sizes)
    assert trunks == pytest.approx(51.8, abs=0.05)
    assert step * flops.behavior(X_BEHAVIOR, WINDOW) / trunks == pytest.approx(1.048, abs=0.001)
    assert flops.trunk(X_BEHAVIOR.prior, tokens, WINDOW) * tokens / 1e9 == pytest.approx(2.2, abs=0.05)


def test_flops_grow_linearly_with_depth_and_with_the_length_of_the_attention():
    one, two = flops.trunk(trunk(2, 64, 4), 16, 8), flops.trunk(trunk(4, 64, 4), 16, 8)
    assert two == 2 * one
    assert flops.trunk(trunk(2, 64, 4), 16, 9) - one == 4 * 64


def test_one_frame_more_costs_a_recurrent_model_what_torch_counts():
    """The first frame of a segment is cheaper: nothing leads to it."""
    model, batch = tiny.rssm(num_categories=2), tiny.pixel_batch(size=1)
    shorter = {name: batch[name][:, :-1] for name in ("frames", "action", "action_valid")}
    one_frame = training_flops(model, batch) - training_flops(model, batch | shorter)
    assert flops.TRAINING * flops.rssm(model.config) == one_frame
