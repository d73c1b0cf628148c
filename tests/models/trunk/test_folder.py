"""A model folder: what its config asks for is bounded before it is built, and planning it draws nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from whale.common.config import Config
from whale.common.errors import BadDataError
from whale.common.limits import HIDDEN_BYTES
from whale.models.trunk.folder import PublishedModel, _Unfilled, load_model, save_model
from whale.models.trunk.st_transformer import STTransformer, STTransformerConfig


class TableConfig(Config):
    size: int


class Table(PublishedModel):
    """Weights of 4 MiB beside a table of `size` MiB that no file holds."""

    kind, config_class = "table", TableConfig

    def __init__(self, config: TableConfig):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(2**20))
        self.register_buffer("table", torch.zeros(config.size, 2**18), persistent=False)


def test_weights_do_not_hide_what_lies_beside_them(tmp_path):
    """They were taken off the sum: as many bytes as a file holds could be reserved beyond the limit."""
    limit = HIDDEN_BYTES // 2**20
    save_model(tmp_path, Table(TableConfig(size=1)))
    text = (tmp_path / "config.json").read_text()
    assert load_model(tmp_path, Table).config.size == 1
    (tmp_path / "config.json").write_text(text.replace('"size": 1', f'"size": {limit + 2}'))
    with pytest.raises(BadDataError, match="too much beside its weights") as error:
        load_model(tmp_path, Table)
    assert error.value.found == f"{(limit + 2) * 2**20} bytes"


def test_positions_of_an_endless_window_are_refused_before_memory_is_taken():
    trunk = STTransformer(STTransformerConfig(num_layers=2, num_heads=1, d_model=8))
    trunk.reserve(4, 4)
    with pytest.raises(BadDataError, match="too much beside its weights"):
        trunk.reserve(10**9, 4)


@pytest.mark.parametrize("fill", [
    nn.init.normal_, nn.init.kaiming_uniform_, nn.init.xavier_normal_, nn.init.orthogonal_, nn.init.trunc_normal_,
    lambda tensor: tensor.bernoulli_(), lambda tensor: torch.rand(8, 8), lambda tensor: torch.randn((8, 8)),
])  # fmt: skip
def test_whatever_fills_a_planned_tensor_draws_nothing_and_keeps_its_shape(fill):
    """Also an initialisation that nobody listed."""
    tensor, before = torch.zeros(8, 8), torch.get_rng_state()
    with _Unfilled():
        filled = fill(tensor)
    assert filled.shape == (8, 8) and torch.equal(torch.get_rng_state(), before) and not tensor.any()


def test_planning_our_models_loads_no_compiler():
    code = (
        "import sys, torch, tiny_models\n"
        "from whale.models.trunk.folder import _Unfilled\n"
        "for make in (tiny_models.tokenizer, tiny_models.behavior, tiny_models.dynamics):\n"
        "    with torch.device('meta'), _Unfilled():\n"
        "        assert all(each.is_meta for each in make().parameters())\n"
        "assert 'sympy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
