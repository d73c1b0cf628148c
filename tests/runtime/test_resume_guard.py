"""Whose states a training goes on from, and what a new derivation says about the old one."""

import argparse
import sys
import types
from pathlib import Path

import pytest
import torch

from whale.config import Config
from whale.errors import MissingInputError, RefusedError
from whale.runtime.guard.stage import stage
from whale.runtime.resume_guard import describe_afresh, differences, resume_from
from whale.training.checkpoint import StateFolder, TrainingState


class ToyConfig(Config):
    rate: float = 1.5


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_STAGE", "WHALE_RESUME_FROM"):
        monkeypatch.delenv(name, raising=False)
    Path("source.txt").write_text("raw")


def train_toy(config: ToyConfig, steps: int = 0) -> tuple[Path, int]:
    """A stage that resumes and saves `steps`; returns its work folder and where it began."""
    args = argparse.Namespace(item=None, source=Path("source.txt"), out=Path("artifacts/demo/toy"), metrics=None)
    with stage("toy", args, config) as run:
        describe_afresh(run)
        states = StateFolder(run.work / "states", identity=run.digest)
        resume_from(run, states)
        found = states.newest()
        if steps:
            states.save(TrainingState(steps, {"model.w": torch.ones(2)}, {"curve": []}))
        return run.work, found.step if found else 0


def test_a_new_config_starts_afresh_and_says_what_differs_and_where_the_old_state_lies(capfd):
    old, _ = train_toy(ToyConfig(), steps=3)
    assert train_toy(ToyConfig(), steps=5)[1] == 3
    capfd.readouterr()
    new, began = train_toy(ToyConfig(rate=2.0))
    said = capfd.readouterr().err
    assert began == 0 and new != old
    assert str(old) in said and "config.toy.rate: 1.5 -> 2.0" in said


def test_changed_inputs_are_named_too(capfd):
    train_toy(ToyConfig(), steps=3)
    Path("source.txt").write_text("other")
    train_toy(ToyConfig())
    assert "inputs.source: " in capfd.readouterr().err


def test_an_explicit_resume_into_another_config_is_refused_with_the_differences(monkeypatch):
    old, _ = train_toy(ToyConfig(), steps=3)
    monkeypatch.setenv("WHALE_RESUME_FROM", str(old))
    with pytest.raises(RefusedError, match=r"config\.toy\.rate: 1\.5 -> 2\.0"):
        train_toy(ToyConfig(rate=2.0))


def test_an_explicit_resume_goes_on_where_only_the_code_differs_once_and_notes_it(monkeypatch, tmp_path):
    main = tmp_path / "main.py"
    main.write_text("step = 1\n")
    program = types.ModuleType("__main__")
    program.__file__ = str(main)
    monkeypatch.setitem(sys.modules, "__main__", program)
    old, _ = train_toy(ToyConfig(), steps=3)
    main.write_text("step = 1  # a comment\n")
    monkeypatch.setenv("WHALE_RESUME_FROM", str(old))
    new, began = train_toy(ToyConfig(), steps=6)
    assert new != old and began == 3
    assert '"step": 3' in (new / "continued.json").read_text()
    assert train_toy(ToyConfig())[1] == 6  # its own, newer state


def test_a_folder_without_a_training_is_an_error(monkeypatch):
    monkeypatch.setenv("WHALE_RESUME_FROM", "nowhere")
    with pytest.raises(MissingInputError):
        train_toy(ToyConfig())


def test_differences_name_what_changed_came_and_went():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert differences(old, new) == ["a.c: 2 -> 5", "d: 3 -> None", "e: None -> 4"]
