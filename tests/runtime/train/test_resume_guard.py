"""Whose states a training goes on from, and what a new derivation says about the old one."""

import argparse
import base64
import json
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch

from whale.common.config import Config
from whale.common.errors import MissingInputError, RefusedError
from whale.guard.stage import stage
from whale.runtime.train.resume_guard import describe_afresh, differences, note_continued, resume_from
from whale.training.loop.resume.checkpoint import StateFolder, TrainingState


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
        states = StateFolder(run.work / "states", identity=run.identity)
        resume_from(run, states)
        found = states.newest()
        if steps:
            states.save(TrainingState(steps, {"model.w": torch.ones(2)}, {"curve": []}))
        note_continued(run)
        return run.work, found.step if found else 0


def signed_notes() -> list[object]:
    """What the statements so far say about states of other code."""
    envelopes = [json.loads(path.read_text()) for path in Path("lineage/runs").glob("*/statement.dsse.json")]
    statements = [json.loads(base64.b64decode(envelope["payload"])) for envelope in envelopes]
    internal = [each["predicate"]["buildDefinition"]["internalParameters"] for each in statements]
    return [each["continued"] for each in internal if "continued" in each]


@pytest.fixture
def other_code(monkeypatch, tmp_path):
    """Call it to change the code of the stage."""
    main = tmp_path / "main.py"
    main.write_text("step = 1\n")
    program = types.ModuleType("__main__")
    program.__file__ = str(main)
    monkeypatch.setitem(sys.modules, "__main__", program)
    return lambda: main.write_text("step = 2\n")


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


def test_an_explicit_resume_goes_on_where_only_the_code_differs_once_and_notes_it(monkeypatch, other_code):
    old, _ = train_toy(ToyConfig(), steps=3)
    other_code()
    assert signed_notes() == []
    monkeypatch.setenv("WHALE_RESUME_FROM", str(old))
    new, began = train_toy(ToyConfig(), steps=6)
    assert new != old and began == 3
    assert '"step": 3' in (new / "continued.json").read_text()
    assert [(note["from"], note["step"]) for note in signed_notes()] == [(str(old), 3)]
    assert train_toy(ToyConfig())[1] == 6  # its own, newer state
    assert len(signed_notes()) == 2  # the steps before 3 are still the other code's


def test_own_states_win_over_an_explicit_resume(monkeypatch, other_code, capfd):
    old, _ = train_toy(ToyConfig(), steps=300)
    other_code()
    train_toy(ToyConfig(), steps=7)
    monkeypatch.setenv("WHALE_RESUME_FROM", str(old))
    new, began = train_toy(ToyConfig())
    assert began == 7 and not (new / "continued.json").exists() and signed_notes() == []
    assert "step-00000007 is this run's own" in capfd.readouterr().err


def test_the_folder_of_another_stage_or_item_is_left_alone(monkeypatch):
    old, _ = train_toy(ToyConfig(), steps=3)
    derivation = json.loads((old / "derivation.json").read_text())
    for change in ({"stage": "other"}, {"item": "full"}):
        (old / "derivation.json").write_text(json.dumps(derivation | change))
        monkeypatch.setenv("WHALE_RESUME_FROM", str(old))
        assert train_toy(ToyConfig(rate=2.0))[1] == 0


def test_a_state_taken_over_and_lost_is_not_in_the_statement(monkeypatch, other_code):
    old, _ = train_toy(ToyConfig(), steps=3)
    other_code()
    monkeypatch.setenv("WHALE_RESUME_FROM", str(old))
    new, _ = train_toy(ToyConfig())
    shutil.rmtree(new / "states")
    monkeypatch.delenv("WHALE_RESUME_FROM")
    assert train_toy(ToyConfig())[1] == 0 and len(signed_notes()) == 1 and not (new / "continued.json").exists()


def test_a_folder_without_a_training_is_an_error(monkeypatch):
    monkeypatch.setenv("WHALE_RESUME_FROM", "nowhere")
    with pytest.raises(MissingInputError):
        train_toy(ToyConfig())


def test_differences_name_what_changed_came_and_went():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert differences(old, new) == ["a.c: 2 -> 5", "d: 3 -> None", "e: None -> 4"]
