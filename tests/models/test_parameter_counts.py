"""Tables 5 to 7 of the paper: our build's counts, exactly, and within the stated distance of the printed ones."""

import pytest
import torch
from tiny_models import behavior, dynamics, tokenizer

from whale.models.trunk.st_transformer import STTransformerConfig


def trunk(layers: int, width: int, heads: int) -> STTransformerConfig:
    return STTransformerConfig(num_layers=layers, num_heads=heads, d_model=width)


def count(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


TABLE_7 = {
    "whale-st": (trunk(12, 512, 8), 1024, 4, 26, 25_844_224),
    "whale-x-small": (trunk(18, 512, 8), 2048, 7, 39, 38_962_944),
    "whale-x-medium": (trunk(16, 768, 16), 2048, 7, 77, 77_312_256),
    "whale-x-base": (trunk(24, 1024, 16), 2048, 7, 204, 203_771_904),
    "whale-x-large": (trunk(24, 1536, 12), 2048, 7, 456, 456_654_336),
}


@pytest.mark.parametrize("name", TABLE_7)
def test_dynamics_sizes_are_those_of_table_7(name):
    size, num_codes, action_size, printed_millions, ours = TABLE_7[name]
    with torch.device("meta"):
        model = dynamics(trunk=size, num_codes=num_codes, action_size=action_size)
    assert count(model) == ours
    assert abs(ours / 1e6 - printed_millions) <= 0.7
    assert round((ours - 256 * size.d_model) / 1e6) == printed_millions  # the paper leaves the z input out


@pytest.mark.parametrize(
    ("resolution", "patch", "codes", "encoder", "decoder", "counts"),
    [
        (64, 4, 1024, trunk(4, 512, 8), trunk(8, 512, 8), (8_437_792, 32_768, 16_833_072)),
        (256, 16, 1024, trunk(12, 512, 8), trunk(16, 512, 8), (25_596_960, 32_768, 33_992_960)),
        (256, 16, 2048, trunk(12, 512, 8), trunk(20, 1024, 16), (25_596_960, 65_536, 168_659_200)),
    ],
)
def test_tokenizer_sizes_are_those_of_table_5(resolution, patch, codes, encoder, decoder, counts):
    sizes = {"resolution": resolution, "patch_size": patch, "num_codes": codes, "latent_dim": 32}
    with torch.device("meta"):
        model = tokenizer(**sizes, encoder=encoder, decoder=decoder)
    assert (count(model.encoder), count(model.quantizer), count(model.decoder)) == counts


def test_behavior_sizes_are_those_of_table_6():
    sizes = {"resolution": 64, "patch_size": 8, "action_size": 4}
    trunks = {"posterior": trunk(8, 512, 8), "prior": trunk(4, 512, 8 // 2), "policy": trunk(8, 512, 8)}
    with torch.device("meta"):
        model = behavior(**sizes, **trunks)
    assert count(model.posterior_encoder, model.posterior_head) == 17_024_768
    assert count(model.prior_encoder, model.prior_head) == 8_630_016
    assert count(model.policy_encoder, model.policy_head, model.policy_z) == 17_028_616
