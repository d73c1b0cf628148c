"""HDF5 in robomimic's form and folders of npz: read as written, refused where they could run or reach out."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from ingest_fixture import ingest
from lerobot_fixture import SIZE, picture, rows

from whale.common.config import load_yaml
from whale.common.errors import BadDataError, MissingInputError
from whale.data.ingest.canonical.instruction_text import instruction
from whale.data.ingest.sources import hdf5 as hdf5_module
from whale.data.ingest.sources.hdf5 import Hdf5Source
from whale.data.ingest.sources.npz import NpzSource
from whale.data.spec.episode import RawEpisode, Rejected
from whale.data.spec.spec import DatasetSpec, Language
from whale.data.storage.images import decode
from whale.data.storage.shards import ShardSet

LENGTHS = {"demo_2": 6, "demo_10": 7, "demo_1": 5}
IN_ORDER = ["demo_1", "demo_2", "demo_10"]


def read(source, keys=None):
    return [raw for index in range(len(source.splits["all"])) for raw in source.read_shard("all", index, keys)]


def pictures(episode, length):
    return np.stack([picture(episode, step) for step in range(length)])


def write_hdf5(path: Path) -> h5py.File:
    """Demos in the form of robomimic; the open file, for a test to spoil."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = h5py.File(path, "w")
    data = file.create_group("data")
    data.attrs["env_args"] = "__import__('os').system('touch ran')"
    data.attrs["problem_info"] = json.dumps({"language_instruction": "open the drawer"})
    for number, (name, length) in enumerate(LENGTHS.items()):
        demo, values = data.create_group(name), rows(number, length)
        demo.attrs["num_samples"] = length
        demo.create_dataset("actions", data=values["action"])
        demo.create_dataset("rewards", data=np.arange(length, dtype=np.float32))
        demo.create_dataset("obs/state", data=values["observation.state"])
        demo.create_dataset("obs/agentview_rgb", data=pictures(number, length), compression="gzip")
    return file


@pytest.fixture
def hdf5(tmp_path):
    write_hdf5(tmp_path / "tiny" / "task.hdf5").close()
    return tmp_path / "tiny"


def test_demos_come_in_the_order_of_their_numbers_with_arrays_frames_and_instruction(hdf5):
    episodes = read(Hdf5Source(hdf5, "tiny", "1.0.0"))
    assert [raw.metadata["demo"].decode() for raw in episodes] == IN_ORDER
    for raw in episodes:
        number = list(LENGTHS).index(raw.metadata["demo"].decode())
        np.testing.assert_array_equal(raw.steps["actions"], rows(number, raw.num_steps)["action"])
        np.testing.assert_array_equal(raw.steps["reward"], np.arange(raw.num_steps))
        frames = np.stack([decode(frame) for frame in raw.steps["obs/agentview_rgb"]])
        np.testing.assert_array_equal(frames, pictures(number, raw.num_steps))
        assert raw.metadata["language_instruction"] == b"open the drawer"
        assert "env_args" not in raw.metadata


def spec(kind, camera, language, action="actions", state="obs/state", edits=(), **action_changes):
    text = f"""
name: tiny
source: {{format: {kind}, dataset: tiny, version: "1.0.0", splits: {{train: "all[:70%]", val: "all[70%:]"}}}}
robot: {{name: Tiny, arms: 1, control_hz: 10.0}}
cameras:
  primary: {{key: "{camera}", channels: rgb, hw: [{SIZE}, {SIZE}], view: fixed, rotate: 0, optional: false}}
language: {language}
state:
  pose: {{key: {state}, slice: [0, 6], form: xyz_rpy, units: [m, rad]}}
  gripper: {{key: {state}, slice: [6, 7], rises_when: open}}
action:
  translation: {{key: {action}, slice: [0, 3], unit: m, ops: []}}
  rotation: {{key: {action}, slice: [3, 6], unit: rad, ops: []}}
  gripper: {{key: {action}, slice: [6, 7], raw: absolute, ops: []}}
  contract: {{frame: base, form: delta, live: xyzrpwg, limit: null, retraceable: true, last_step: undefined}}
episodes: {{filters: [], edits: [{", ".join(edits)}], min_steps: 2}}
licence: {{spdx: Apache-2.0, url: "", evidence: made here, citation: none}}
expect: {{episodes: null, steps: null, source: test}}
errata: []
"""
    return DatasetSpec.parse(yaml.safe_load(text), file="data_specs/tiny.yaml")


def test_hdf5_goes_the_whole_way_into_shards(hdf5, tmp_path):
    instruction = "{key: language_instruction, encoding: utf8, scope: episode, kind: natural}"
    out, report = ingest(hdf5, tmp_path, spec("hdf5", "obs/agentview_rgb", instruction))
    assert report["read"]["steps"] == sum(LENGTHS.values())
    row = ShardSet.open(out, verify="always").episodes("train")[0]
    assert (row.language, row.num_steps) == ("open the drawer", LENGTHS["demo_1"])
    action = ShardSet.open(out).read_arrays(row)["action"]
    np.testing.assert_array_equal(action[:-1], rows(2, LENGTHS["demo_1"])["action"][:-1])


def external(demo, path):
    demo["obs/elsewhere"] = h5py.ExternalLink(str(path), "/")


def soft(demo, path):
    demo["obs/elsewhere"] = h5py.SoftLink("/data")


def virtual(demo, path):
    layout = h5py.VirtualLayout(shape=(5, 2), dtype="f4")
    layout[:] = h5py.VirtualSource(str(path), "secret", shape=(5, 2))
    demo.create_virtual_dataset("obs/elsewhere", layout)


def stored_outside(demo, path):
    demo.create_dataset("obs/elsewhere", shape=(5, 2), dtype="f4", external=[(str(path), 0, 40)])


def longer(demo, path):
    demo.create_dataset("obs/elsewhere", data=np.zeros((9, 2)))


def wrong_count(demo, path):
    demo.attrs["num_samples"] = 99


def never_written(demo, path):
    demo.create_dataset("obs/elsewhere", shape=(5, 2**20), dtype="f4", chunks=(1, 2**10))


def bomb_of_numbers(demo, path):
    demo.create_dataset("obs/elsewhere", data=np.zeros((5, 2**20)), compression="gzip", compression_opts=9,
                        chunks=(5, 2**20), shuffle=True)  # fmt: skip


def hard_links_to_one_group(demo, path):
    group = demo.create_group("obs/g0")
    for _ in range(5):
        below = group.create_group("g0")
        for number in range(1, 8):
            group[f"g{number}"] = below
        group = below


def group_within_itself(demo, path):
    for number in range(8):
        demo[f"obs/{number}"] = demo["obs"]


SPOILS = {never_written: "unsafe", bomb_of_numbers: "unsafe", hard_links_to_one_group: "unsafe",
          group_within_itself: "unsafe", external: "unsafe", soft: "unsafe", virtual: "unsafe",
          stored_outside: "unsafe", longer: "length_mismatch", wrong_count: "length_mismatch"}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_a_demo_that_reaches_out_or_contradicts_itself_is_rejected_alone(tmp_path, spoil):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"s" * 64)
    with write_hdf5(tmp_path / "tiny" / "task.hdf5") as file:
        spoil(file["data/demo_1"], secret)
    outcomes = read(Hdf5Source(tmp_path / "tiny", "tiny", "1.0.0"), {"actions", "obs/elsewhere"})
    assert [isinstance(raw, Rejected) for raw in outcomes] == [True, False, False]
    assert outcomes[0].reason == SPOILS[spoil] and "demo_1" in outcomes[0].detail


UNREAD = [external, soft, virtual, stored_outside, longer, never_written, bomb_of_numbers]


@pytest.mark.parametrize("spoil", UNREAD, ids=lambda spoil: spoil.__name__)
def test_what_no_spec_reads_blocks_nothing_and_is_told(tmp_path, spoil):
    with write_hdf5(tmp_path / "tiny" / "task.hdf5") as file:
        spoil(file["data/demo_1"], tmp_path / "secret.bin")
    source = Hdf5Source(tmp_path / "tiny", "tiny", "1.0.0")
    assert all(isinstance(raw, RawEpisode) for raw in read(source, {"actions", "obs/state"}))
    assert "obs/elsewhere" in source.left_out and "obs/elsewhere" not in source.features


def test_numbers_that_would_not_fit_into_memory_are_refused_before_they_are_read(hdf5, monkeypatch):
    monkeypatch.setattr(hdf5_module, "NUMBERS_BYTES", 7 * 4 * 6)  # of demo_1 and demo_2; frames are larger
    outcomes = read(Hdf5Source(hdf5, "tiny", "1.0.0"))
    assert [isinstance(raw, Rejected) for raw in outcomes] == [False, False, True]
    assert outcomes[2].reason == "unsafe"


def external_demo(data, path):
    data["demo_3"] = h5py.ExternalLink(str(path), "/data/demo_1")


def soft_demo(data, path):
    data["demo_3"] = h5py.SoftLink("/data/demo_1")


def dangling_demo(data, path):
    data["demo_3"] = h5py.SoftLink("/nowhere")


def array_demo(data, path):
    data["demo_3"] = np.zeros(3)


@pytest.mark.parametrize("spoil", [external_demo, soft_demo, dangling_demo, array_demo], ids=lambda each: each.__name__)
def test_a_demo_that_is_a_link_is_not_followed(tmp_path, spoil):
    write_hdf5(tmp_path / "other.hdf5").close()
    with write_hdf5(tmp_path / "tiny" / "task.hdf5") as file:
        spoil(file["data"], tmp_path / "other.hdf5")
    with pytest.raises(BadDataError, match=r"task\.hdf5[^$]*data/demo_3"):
        Hdf5Source(tmp_path / "tiny", "tiny", "1.0.0")


@pytest.mark.parametrize("spoil", [external_demo, soft_demo], ids=lambda each: each.__name__)
def test_a_demo_that_became_a_link_since_the_file_was_listed_is_rejected(tmp_path, spoil):
    write_hdf5(tmp_path / "other.hdf5").close()
    with write_hdf5(tmp_path / "tiny" / "task.hdf5") as file:
        file.copy("data/demo_1", "data/demo_3")
    source = Hdf5Source(tmp_path / "tiny", "tiny", "1.0.0")
    with h5py.File(tmp_path / "tiny" / "task.hdf5", "a") as file:
        del file["data/demo_3"]
        spoil(file["data"], tmp_path / "other.hdf5")
    outcomes = read(source)
    assert [isinstance(raw, Rejected) for raw in outcomes] == [False, False, True, False]
    assert outcomes[2].reason == "unsafe"


def test_a_first_demo_that_cannot_be_read_is_an_error_of_its_file(tmp_path):
    with write_hdf5(tmp_path / "tiny" / "task.hdf5") as file:
        group_within_itself(file["data/demo_1"], tmp_path / "other.hdf5")
    with pytest.raises(BadDataError, match="data/demo_1"):
        _ = Hdf5Source(tmp_path / "tiny", "tiny", "1.0.0").features


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 3], lambda data: b"<html>" * 99])
def test_a_file_that_is_no_hdf5_is_named(tmp_path, damage):
    path = tmp_path / "tiny" / "task.hdf5"
    write_hdf5(path).close()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadDataError, match=r"task\.hdf5"):
        Hdf5Source(tmp_path / "tiny", "tiny", "1.0.0")


def write_npz(root: Path, lengths=(5, 6, 7), shift=0) -> Path:
    root.mkdir(parents=True)
    for number, length in enumerate(lengths):
        values = rows(number, length)
        action = np.roll(values["action"], shift, axis=0)
        action[:shift] = 0.0
        stacked = np.repeat(pictures(number, length).transpose(0, 3, 1, 2), 3, axis=1)
        np.savez_compressed(
            root / f"{number:03d}.npz", action=action, state=values["observation.state"], planes=stacked,
            image=pictures(number, length), success=np.bool_(True),
        )  # fmt: skip
    return root


def test_npz_arrays_pictures_and_scalars_are_read(tmp_path):
    episodes = read(NpzSource(write_npz(tmp_path / "tiny"), "tiny", "1.0.0"))
    for number, raw in enumerate(episodes):
        assert isinstance(raw, RawEpisode) and raw.metadata["success"]
        np.testing.assert_array_equal(raw.steps["action"], rows(number, raw.num_steps)["action"])
        np.testing.assert_array_equal(decode(raw.steps["image"][2]), picture(number, 2))
        assert {"planes[0:3]", "planes[3:6]", "planes[6:9]"} <= raw.steps.keys()
        np.testing.assert_array_equal(decode(raw.steps["planes[0:3]"][1])[..., 1], picture(number, 1)[..., 0])


def test_actions_stored_with_the_frame_they_led_to_are_shifted_back(tmp_path):
    nothing = "{key: null, encoding: utf8, scope: step, kind: none}"
    late = spec("npz", "image", nothing, "action", "state", ["shift_action"])
    out, _ = ingest(write_npz(tmp_path / "tiny", shift=1), tmp_path, late)
    row = ShardSet.open(out).episodes("train")[0]
    arrays = ShardSet.open(out).read_arrays(row)
    np.testing.assert_array_equal(arrays["action"][:-1], rows(0, 5)["action"][:-1])
    assert arrays["action_valid"].tolist() == [True] * 4 + [False]


def pickled(path):
    np.savez(path, action=np.array([{"a": 1}], dtype=object), state=np.zeros(1))


def unequal(path):
    np.savez(path, action=np.zeros((5, 7)), state=np.zeros((4, 7)))


def bomb(path):
    np.savez_compressed(path, action=np.zeros((2**21, 8)))


def flipped(path):
    """The first bytes of a member's deflate stream: a block of a type that there is not."""
    with zipfile.ZipFile(path) as archive:
        member = archive.infolist()[0]
    data = bytearray(path.read_bytes())
    local = data[member.header_offset : member.header_offset + 30]
    start = member.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    data[start : start + 4] = b"\xff" * 4
    path.write_bytes(data)


def directory_entry(path, offset, value):
    """One byte of the first entry of the archive's directory."""
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(data)


def encrypted(path):
    directory_entry(path, 8, 1)


def unknown_compression(path):
    directory_entry(path, 10, 99)


def huge_shape(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**60,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("action.npy", header.getvalue())


def no_array(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")


NPZ_SPOILS = {pickled: "decode_error", unequal: "length_mismatch", bomb: "unsafe", flipped: "decode_error",
              encrypted: "decode_error", unknown_compression: "decode_error", huge_shape: "decode_error",
              no_array: "decode_error"}  # fmt: skip


@pytest.mark.parametrize("spoil", NPZ_SPOILS, ids=lambda spoil: spoil.__name__)
def test_an_npz_that_must_not_be_loaded_is_rejected_alone(tmp_path, spoil):
    root = write_npz(tmp_path / "tiny")
    spoil(root / "001.npz")
    outcomes = read(NpzSource(root, "tiny", "1.0.0"), {"action", "state", "readme.txt"})
    assert [isinstance(raw, Rejected) for raw in outcomes] == [False, True, False]
    assert outcomes[1].reason == NPZ_SPOILS[spoil]


@pytest.mark.parametrize("opened", [Hdf5Source, NpzSource])
def test_an_empty_folder_is_an_error(tmp_path, opened):
    with pytest.raises(MissingInputError):
        opened(tmp_path, "tiny", "1.0.0")


@pytest.mark.real_data
def test_the_metaworld_sample_shifts_clips_and_masks(real_data, tmp_path, project_root):
    """101 frames and actions each; action[0] is a filler; planes 6 to 8 are now; actions reach 24.8."""
    values = load_yaml(project_root / "data_specs" / "metaworld.yaml")
    values["source"] |= {"format": "npz", "splits": {"train": "all[:70%]", "val": "all[70%:]"}}
    values["cameras"]["primary"]["key"] = "observation[6:9]"
    values["language"] = {"key": None, "encoding": "utf8", "scope": "step", "kind": "none"}
    values["episodes"] |= {"edits": ["shift_action"], "accept": []}
    values["state"] = None  # this sample has none
    late = DatasetSpec.parse(values, file="x")
    out, report = ingest(real_data / "ivideogpt_metaworld_demos", tmp_path, late, resolution=64)
    assert report["read"] == {"episodes": 6, "steps": 606, "valid_steps": 0}
    assert sum(count["valid_steps"] for count in report["kept"].values()) == 600
    shards = ShardSet.open(out)
    raw = np.load(sorted((real_data / "ivideogpt_metaworld_demos").rglob("*.npz"))[0], allow_pickle=False)
    arrays = shards.read_arrays(shards.episodes("train")[0])
    expected = np.clip(raw["action"][1:], -1, 1)
    np.testing.assert_allclose(arrays["action"][:-1, :3], expected[:, :3], atol=1e-6)
    np.testing.assert_allclose(arrays["action"][:-1, 6], (1 - expected[:, 3]) / 2, atol=1e-6)
    frame = shards.read_frames(shards.episodes("train")[0], 5, 6)[0]
    assert np.abs(frame.astype(int) - raw["observation"][5, 6:9].transpose(1, 2, 0)).mean() < 4


@pytest.mark.parametrize("text", [np.array("push the red block é"), np.array("push the red block é".encode())])
def test_text_of_an_npz_episode_is_read_as_the_bytes_that_other_formats_give(tmp_path, text):
    folder = tmp_path / "tiny"
    folder.mkdir()
    np.savez(folder / "000.npz", action=np.zeros((3, 7), np.float32), instruction=text, number=np.int64(4))
    (episode,) = read(NpzSource(folder, "tiny", "1.0.0"))
    assert episode.metadata["instruction"] == "push the red block é".encode() and int(episode.metadata["number"]) == 4
    language = Language(key="instruction", scope="episode", encoding="utf8", kind="natural")
    assert instruction(episode, language, slice(None)) == ("push the red block é", False)
