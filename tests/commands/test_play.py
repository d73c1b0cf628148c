"""`whale play`: which world it opens, and what it says where there is none."""

import os
import shutil
from pathlib import Path

import pytest
import tiny_world

from whale.cli import run
from whale.commands.results.play import chosen_world, drives_of
from whale.common.errors import ConfigError, MismatchError, MissingInputError


def test_without_a_world_it_says_which_command_makes_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["play"]) == 2
    assert "make demo" in capsys.readouterr().err
    assert run(["play", "nowhere"]) == 2
    assert "no world model here" in capsys.readouterr().err


def test_a_bundle_with_one_changed_byte_is_not_opened(tmp_path, capsys):
    bundle = tiny_world.write_bundle(tmp_path)
    payload = bytearray((bundle / "dynamics/model.safetensors").read_bytes())
    payload[-1] ^= 1
    (bundle / "dynamics/model.safetensors").write_bytes(payload)
    assert run(["play", str(bundle)]) == 1
    assert "dynamics/model.safetensors" in capsys.readouterr().err


def test_bytes_that_changed_after_the_start_are_not_opened_when_another_robot_is_chosen(tmp_path):
    bundle = tiny_world.write_bundle(tmp_path, ("fleet_delta", "fleet_absolute"))
    drives = drives_of(bundle, [])
    first, second = drives.datasets
    payload = bytearray((bundle / "behavior/model.safetensors").read_bytes())
    payload[-1] ^= 1
    (bundle / "behavior/model.safetensors").write_bytes(payload)
    assert drives.about(first)["dataset"] == first  # it is open
    with pytest.raises(MismatchError, match=r"behavior/model\.safetensors"):
        drives.about(second)


@pytest.mark.parametrize("policies", [["behavior"], ["keys=ws://127.0.0.1:9"], ["recorded=ws://127.0.0.1:9"],
                                      ["mine=ws://127.0.0.1:9", "mine=ws://127.0.0.1:8"]])  # fmt: skip
def test_a_policy_whose_name_is_taken_is_refused_and_vanishes_no_more(tmp_path, policies):
    bundle = tiny_world.write_bundle(tmp_path)
    with pytest.raises(ConfigError, match="two policies of one name") as error:
        drives_of(bundle, policies)
    assert error.value.found == policies[0].partition("=")[0]


def test_models_without_recorded_frames_beside_them_say_what_to_do(tmp_path):
    tiny_world.write_models(tmp_path / "models")
    with pytest.raises(MissingInputError, match="recorded first frames"):
        drives_of(tmp_path / "models", [])


def test_the_newest_fine_tuned_model_comes_first_and_one_that_was_shipped_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_world.write_bundle(tmp_path / "made"), "worlds/small")
    assert chosen_world() == Path("worlds/small")
    names = ["old/models", "old/models/finetuned", "new/models/finetuned"]
    folders = [Path("artifacts") / name / "dynamics/full" for name in names]
    for age, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        os.utime(folder / "model.safetensors", ns=(age, age))
        assert chosen_world() == folder
    os.utime(folders[0] / "model.safetensors", ns=(9, 9))
    assert chosen_world() == folders[-1]
