"""Steps between two saved states, computed again: equal bits for a sound machine, refusals where they cannot be."""

import json
from pathlib import Path

import pytest
import tiny_training as runs
import torch

from whale.common.errors import MissingInputError, RefusedError
from whale.common.files import sha256_of_file, temporary_name_of
from whale.seal import seal
from whale.training.loop.recomputation import differences, recompute
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.task import Hooks


@pytest.mark.parametrize("kind", ["tokenizer", "behavior", "dynamics"])
def test_the_steps_of_a_sound_run_give_the_same_bits_and_leave_its_states_alone(kind, tmp_path):
    runs.run(kind, tmp_path / "states", training_steps=7)
    before = {path: sha256_of_file(path) for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    said: list[str] = []
    states = StateFolder(tmp_path / "states")
    assert recompute(runs.task(kind, 7), states, 4, 6, Hooks(), said.append) == 0
    assert said[-1].startswith("steps 4 to 5: computed again, every bit of")
    assert {path: sha256_of_file(path) for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_the_folder_of_a_replay_has_a_temporary_name_so_that_a_killed_ones_is_cleared(tmp_path):
    runs.run("dynamics", tmp_path / "states", training_steps=7)
    seen: list[Path] = []

    def look(model):
        seen.extend(tmp_path.iterdir())
        return model

    recompute(runs.task("dynamics", 7), StateFolder(tmp_path / "states"), 4, 6, Hooks(wrap=look))
    assert [temporary_name_of(path) for path in sorted(seen)] == ["again", None]


def test_a_state_that_is_gone_is_named_with_those_that_are_there(tmp_path):
    runs.run("dynamics", tmp_path / "states", training_steps=7)
    with pytest.raises(MissingInputError, match="step-00000004"):
        recompute(runs.task("dynamics", 7), StateFolder(tmp_path / "states"), 2, 6, Hooks())


def test_sums_of_several_workers_are_not_compared_with_those_of_one(tmp_path):
    runs.run("dynamics", tmp_path / "states", training_steps=7)
    record = tmp_path / "states/step-00000006/state.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"world_size": 2}))
    seal(record.parent, sha256_of_file)
    with pytest.raises(RefusedError, match=r"by \[1, 2\] workers"):
        recompute(runs.task("dynamics", 7), StateFolder(tmp_path / "states"), 4, 6, Hooks())


def test_a_negative_zero_and_a_nan_are_bits_like_others():
    one, other = torch.tensor([0.0, torch.nan, 1.0]), torch.tensor([-0.0, torch.nan, 1.0])
    assert differences({"w": one}, {"w": one.clone()}) == []
    assert [name for name, _ in differences({"w": one, "gone": one}, {"w": other})] == ["gone", "w"]
