"""`whale play`: which world it opens, and what it says where there is none."""

import os
import shutil
from pathlib import Path

import pytest
import tiny_world

from whale.cli import run
from whale.commands.results.play import chosen_world, drives_of
from whale.common.errors import MissingInputError


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
