"""Which models are measured on which data."""

from pathlib import Path

import pytest

from whale.common.errors import ConfigError
from whale.evaluation.measuring.roles import chosen_splits, roles


def test_without_fine_tuning_the_pretrained_models_are_all(tmp_path):
    found = list(roles(tmp_path / "models", tmp_path / "data"))
    assert found == [("pretrain", tmp_path / "models", tmp_path / "data/pretrain")]


@pytest.mark.parametrize("there", ["data/finetune", "models/finetuned"])
def test_half_of_a_fine_tuning_is_not_passed_over(there, tmp_path):
    (tmp_path / there).mkdir(parents=True)
    found = {role: places for role, *places in roles(Path(tmp_path / "models"), tmp_path / "data")}
    assert found["finetune"] == [tmp_path / "models/finetuned", tmp_path / "data/finetune"]


def test_data_of_a_role_without_a_split_to_measure_are_refused():
    assert chosen_splits("evaluate_video", "pretrain", ["test"], []) == ["test"]
    with pytest.raises(ConfigError, match=r"evaluate_video\.finetune_splits"):
        chosen_splits("evaluate_video", "finetune", ["test"], [])
