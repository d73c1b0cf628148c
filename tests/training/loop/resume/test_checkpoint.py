import errno
import threading
from pathlib import Path

import pytest
import torch

from whale import seal
from whale.common import files
from whale.common.errors import CannotWriteError
from whale.training.loop.resume import checkpoint
from whale.training.loop.resume.checkpoint import SavesBehind, StateFolder, TrainingState


def state(step: int) -> TrainingState:
    return TrainingState(step, {"model.w": torch.full((4, 4), float(step))}, {"curve": [{"step": step}]})


def test_a_state_comes_back_bit_equal(tmp_path):
    folder = StateFolder(tmp_path)
    folder.save(state(3))
    found = folder.newest()
    assert found.step == 3 and found.record == {"curve": [{"step": 3}]}
    assert torch.equal(found.tensors["model.w"], torch.full((4, 4), 3.0))


def test_the_newest_by_step_wins_and_old_ones_go(tmp_path):
    folder = StateFolder(tmp_path)
    for step in (2, 7, 40, 100):
        folder.save(state(step))
    assert folder.newest().step == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000040", "step-00000100"]


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "unsealed", "foreign"])
def test_a_damaged_state_is_rejected_by_name_and_the_one_before_is_used(tmp_path, damage):
    said = []
    folder = StateFolder(tmp_path, say=said.append)
    folder.save(state(1))
    newest = folder.save(state(2))
    tensors = newest / "tensors.safetensors"
    if damage == "flip":
        content = bytearray(tensors.read_bytes())
        content[-3] ^= 1
        tensors.write_bytes(content)
    elif damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-5])
    elif damage == "missing":
        (newest / "state.json").unlink()
    elif damage == "unsealed":
        (newest / "MANIFEST.json").unlink()
    else:
        (newest / "extra.bin").write_bytes(b"?")
    assert folder.newest().step == 1
    assert len(said) == 1 and "step-00000002" in said[0]


def test_newer_damaged_states_go_and_never_the_one_just_written(tmp_path):
    folder = StateFolder(tmp_path, say=lambda line: None)
    for step in (300, 400):
        path = folder.save(state(step)) / "tensors.safetensors"
        path.write_bytes(path.read_bytes()[:-5])
    assert folder.newest() is None
    for step in (100, 200):
        folder.save(state(step))
        assert folder.newest().step == step
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000100", "step-00000200"]


def test_what_a_killed_writer_left_is_not_a_state_and_is_removed(tmp_path):
    folder = StateFolder(tmp_path)
    folder.save(state(1))
    (tmp_path / ".step-00000002.tmp-123-abc").mkdir()
    assert folder.newest().step == 1
    folder.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


class Slow(StateFolder):
    """A disk that waits until it is told to go on."""

    def __init__(self, directory):
        super().__init__(directory)
        self.may_go_on = threading.Event()

    def save(self, state):
        assert self.may_go_on.wait(60)
        return super().save(state)


def test_training_goes_on_while_a_state_is_written_and_waits_before_the_next(tmp_path):
    folder, saves = Slow(tmp_path), SavesBehind()
    saves.save(folder, state(1))
    assert folder.newest() is None  # here training computes its next steps
    folder.may_go_on.set()
    saves.save(folder, state(2))
    assert folder.newest().step >= 1
    saves.finish()
    assert folder.newest().step == 2


def test_an_error_of_a_save_is_said_where_the_training_ends_with_another_one(tmp_path):
    class Full(StateFolder):
        def save(self, state):
            raise CannotWriteError("cannot save the training state", found="no space left")

    heard, saves, loss = [], SavesBehind(), ValueError("the loss is not finite")
    saves.save(Full(tmp_path, say=heard.append), state(1))
    saves.end_with(loss)
    assert "no space left" in heard[0] and heard == loss.__notes__
    saves.finish()  # it was said; it is not raised a second time


def test_a_failed_fsync_of_the_tensors_is_a_failed_save(tmp_path, monkeypatch):
    """Linux tells it once, to the first who asks: a helper that swallowed it left a state that looked saved."""
    told = set()

    def sync(path, whole=files.sync_file):
        if Path(path).name == "tensors.safetensors" and not told:
            told.add(path)
            raise OSError(errno.EIO, "Input/output error")
        whole(path)

    for module in (seal, checkpoint):
        monkeypatch.setattr(module, "sync_file", sync)
    with pytest.raises((CannotWriteError, OSError)):
        StateFolder(tmp_path).save(state(1))
    assert StateFolder(tmp_path).newest() is None


def test_an_error_of_a_save_is_raised_at_the_next_one_and_never_lost(tmp_path):
    class Full(StateFolder):
        def save(self, state):
            raise CannotWriteError("cannot save the training state", found="no space left")

    saves = SavesBehind()
    saves.save(Full(tmp_path), state(1))
    with pytest.raises(CannotWriteError, match="no space left"):
        saves.save(StateFolder(tmp_path), state(2))
    saves.save(StateFolder(tmp_path), state(3))
    saves.finish()
    assert StateFolder(tmp_path).newest().step == 3
