"""A bundle's files come from strangers: whatever is wrong with one ends in an error that names it."""

import json
import zipfile

import numpy as np
import pytest
import tiny_world

import whale
from whale.audit.exports.world_bundle.world_parts import write_parts
from whale.common.errors import BadDataError, RefusedError
from whale.common.json_files import read_json, write_json
from whale.data.storage import npy
from whale.worlds.contract import ActionContract
from whale.worlds.folder import open_folder
from whale.worlds.starts import read_starts, write_starts
from whale.worlds.trust import entry_in


def sound() -> dict[str, np.ndarray]:
    return {
        "frames": np.zeros((2, 3, 16, 16, 3), np.uint8), "actions": np.zeros((2, 8, 7), np.float32),
        "keys": np.array(["a", "b"]), "instructions": np.array(["", "go"]), "lengths": np.array([3, 8]),
    }  # fmt: skip


def test_starts_come_back_as_they_were_written(tmp_path):
    written = tiny_world.starts()
    write_starts(tmp_path / "s.npz", written)
    for one, other in zip(written, read_starts(tmp_path / "s.npz", 16, 7), strict=True):
        assert (one.key, one.instruction) == (other.key, other.instruction)
        assert np.array_equal(one.frames, other.frames) and np.array_equal(one.actions, other.actions)


WRONG = {
    "wide frames": ("frames", np.zeros((2, 3, 16, 16, 3), np.uint16)),
    "no given frame": ("frames", np.zeros((2, 0, 16, 16, 3), np.uint8)),
    "another resolution": ("frames", np.zeros((2, 3, 32, 32, 3), np.uint8)),
    "another width": ("actions", np.zeros((2, 8, 6), np.float32)),
    "not finite": ("actions", np.full((2, 8, 7), np.nan, np.float32)),
    "0-d keys": ("keys", np.array("a")),
    "objects": ("keys", np.array([{}, {}], object)),
    "negative lengths": ("lengths", np.array([-2, 8])),
    "fewer actions than frames": ("lengths", np.array([2, 8])),
    "more actions than there are": ("lengths", np.array([3, 9])),
    "0-d lengths": ("lengths", np.array(3)),
}


@pytest.mark.parametrize("fault", WRONG)
def test_arrays_that_are_no_starts_are_refused(tmp_path, fault):
    name, array = WRONG[fault]
    np.savez_compressed(tmp_path / "s.npz", **sound())
    read_starts(tmp_path / "s.npz", 16, 7)
    np.savez_compressed(tmp_path / "s.npz", **(sound() | {name: array}))
    with pytest.raises(BadDataError, match=r"(?s)s\.npz.*place: .*" + name + ".*expected:"):
        read_starts(tmp_path / "s.npz", 16, 7)


def test_every_torn_or_damaged_file_of_starts_is_refused(tmp_path):
    file = tmp_path / "s.npz"
    np.savez_compressed(file, **sound())
    payload = file.read_bytes()
    for length in range(0, len(payload), 53):
        file.write_bytes(payload[:length])
        with pytest.raises(BadDataError, match=r"s\.npz"):
            read_starts(file, 16, 7)
    for place in range(0, len(payload), 7):
        file.write_bytes(payload[:place] + bytes([payload[place] ^ 255]) + payload[place + 1 :])
        try:
            read_starts(file, 16, 7)  # some bytes mean nothing, such as a time
        except BadDataError as error:
            assert "s.npz" in str(error)


def test_an_array_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npy, "ARCHIVE_BYTES", 4096)
    np.savez_compressed(tmp_path / "s.npz", **sound())
    assert (tmp_path / "s.npz").stat().st_size < 4096
    with pytest.raises(BadDataError, match="too much"):
        read_starts(tmp_path / "s.npz", 16, 7)


def test_a_header_that_promises_more_than_there_is_reserves_nothing(tmp_path):
    np.savez(tmp_path / "good.npz", **sound())
    with zipfile.ZipFile(tmp_path / "good.npz") as good, zipfile.ZipFile(tmp_path / "s.npz", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name).replace(b"(2, 3, 16, 16, 3), }      ", b"(2, 3, 16, 16, 3000000), }"))
    with pytest.raises(BadDataError, match="not a plain array"):
        read_starts(tmp_path / "s.npz", 16, 7)


OLD_HEADS = {
    "frame_reward_head": {"num_tokens": 16, "latent_dim": 8, "hidden": 8, "instructions": ["x"], "bounds": [0, 1],
                          "tokenizer": "0" * 64, "r2": {"recorded": 0.5}},
    "reward_head": {"feature_size": 128, "action_size": 7, "hidden": 8},
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(OLD_HEADS))
def test_a_reward_head_of_an_earlier_release_is_refused_with_the_command_that_makes_it_anew(tmp_path, kind):
    world = open_folder(tiny_world.write_models(tmp_path / "models"))
    old = tiny_world.write_reward(tmp_path / "reward", tiny_world.encoder())
    write_json(old / "config.json", {"kind": kind, "config": OLD_HEADS[kind]})
    message = r"(?s)not a reward head.*reward/config\.json.*dvc repro train_reward"
    with pytest.raises(BadDataError, match=message):
        write_parts(tmp_path / "bundle", world, {}, old)
    with pytest.raises(BadDataError, match=message):
        whale.load(world.dynamics, reward=old)


def test_a_reward_head_of_another_tokenizer_is_refused(tmp_path):
    world = open_folder(tiny_world.write_models(tmp_path / "models"))
    other = tiny_world.write_reward(tmp_path / "reward", "0" * 64)
    with pytest.raises(RefusedError, match=r"(?s)another tokenizer.*reward.*0{64}.*" + tiny_world.encoder()):
        write_parts(tmp_path / "bundle", world, {}, other)


def calibration(tmp_path) -> dict:
    tiny_world.write_calibration(tmp_path / "calibration.json", {"tokenizer": "0"})
    return read_json(tmp_path / "calibration.json")


FAULTS = {
    "no checkpoints": lambda found: found.pop("checkpoints"),
    "no weights": lambda found: found["checkpoints"][0]["checkpoint"].update(tokenizer={}),
    "a list for a checkpoint": lambda found: found["checkpoints"].append([]),
    "no depths": lambda found: found["checkpoints"][1].pop("depths"),
    "no steps": lambda found: found["checkpoints"][1]["methods"]["entropy"].update(steps=[]),
    "a text for a number": lambda found: found["checkpoints"][1]["methods"]["entropy"].update(exponent="1"),
    "no temperature": lambda found: found["checkpoints"][1].update(decoding="sample"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_calibration_that_is_none_is_refused(tmp_path, fault):
    found, file = calibration(tmp_path), tmp_path / "calibration.json"
    assert entry_in(file, {"tokenizer": "0"}) is not None
    FAULTS[fault](found)
    write_json(file, found)
    with pytest.raises(BadDataError, match=r"(?s)calibration\.json.*place:.*expected:"):
        entry_in(file, {"tokenizer": "0"})


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]", "\x00"])
def test_a_calibration_that_is_no_json_object_is_refused(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(BadDataError, match=r"calibration\.json"):
        entry_in(tmp_path / "calibration.json", {})


@pytest.mark.parametrize("mask", [None, [True] * 6, "yes", [1.0] * 7, [[True] * 7]])
def test_statistics_without_a_mask_for_each_dimension_are_refused(mask):
    statistics = tiny_world.statistics()
    statistics["action"].pop("mask")
    if mask is not None:
        statistics["action"]["mask"] = mask
    with pytest.raises(BadDataError, match=r"(?s)file: .*place: .*found: .*expected:"):
        ActionContract.of(tiny_world.ROBOT, tiny_world.contract(), statistics, "world.json")


@pytest.mark.parametrize("window", [0, 1025, 10**9, "4", None])
def test_a_window_out_of_bounds_is_refused(tmp_path, window):
    said = {"format": 1, "window": window, "contracts": {"a": {}}, "statistics": {}}
    (tmp_path / "world.json").write_text(json.dumps(said))
    with pytest.raises(BadDataError, match=r"(?s)world\.json.*window.*expected:.*1024"):
        open_folder(tmp_path, verify=False)
