"""Conditions of real data from public bug reports: docs/reference/tested-against.md lists them, each with its test.

Each input is made for its case, and the values are those of another computation (scipy, the values written).
"""

import json

import h5py
import numpy as np
import pytest
import simplejpeg
import yaml
from ingest_fixture import config, ingest
from lerobot_fixture import CAMERA, lerobot_spec, picture, rows, write_v2
from rlds_fixture import PACKAGE, episodes, feature_tree, spec_values, tiny_spec, write_rlds
from scipy.spatial.transform import Rotation

from whale.common.errors import BadDataError, ConfigError, MissingInputError
from whale.data.ingest.canonical.canonical import canonical_episode
from whale.data.ingest.canonical.raw_columns import measured_pose
from whale.data.ingest.sources.hdf5 import Hdf5Source
from whale.data.ingest.sources.location import describe_source
from whale.data.ingest.sources.npz import NpzSource
from whale.data.ingest.sources.rlds import RldsSource
from whale.data.ingest.tasks import left_out, plan_tasks
from whale.data.spec.episode import Episode, RawEpisode, Rejected
from whale.data.spec.spec import DatasetSpec, load_answered_spec
from whale.data.storage.images import canonical_frame, decode
from whale.data.storage.shards import ShardSet
from whale.data.workbench.draft.draft import draft_spec
from whale.data.workbench.draft.sample import take_sample
from whale.data.workbench.spec_check import check_spec

LENGTH, EPISODES = 40, 16


def arm(seed, length=LENGTH):
    """(command (T, 6), pose (T, 7) with a quaternion x y z w): the command is what the arm then does, exactly."""
    rng = np.random.default_rng(seed)
    command = rng.normal(scale=[0.02] * 3 + [0.06] * 3, size=(length, 6))
    position = np.concatenate([np.zeros((1, 3)), np.cumsum(command[:-1, :3], axis=0)])
    turns = [Rotation.from_euler("xyz", rng.uniform(-1.0, 1.0, 3))]
    for each in command[:-1, 3:]:
        turns.append(Rotation.from_euler("xyz", each) * turns[-1])
    return command, np.concatenate([position, np.stack([turn.as_quat() for turn in turns])], axis=1)


def write_npz(folder, make, number=EPISODES, **more):
    """`make(seed)`: arrays of one episode; pictures are added."""
    folder.mkdir(parents=True)
    for seed in range(number):
        arrays = make(seed) | more
        image = np.stack([picture(seed % 4, step % 30) for step in range(len(arrays["action"]))])
        np.savez(folder / f"{seed:03d}.npz", image=image, **arrays)
    return folder


def drafted(folder, name="arm"):
    draft = draft_spec(take_sample(folder), name)
    return DatasetSpec.parse(yaml.safe_load(draft.text), file=f"{name}.yaml"), draft


def read(source, split="all", keys=None):
    units = range(len(source.splits[split]))
    return [raw for index in units for raw in source.read_shard(split, index, keys)]


def scalar_first(pose):
    return np.concatenate([pose[:, :3], np.roll(pose[:, 3:], 1, axis=1)], axis=1)


def closing(seed, length=LENGTH):
    return np.repeat(np.random.default_rng(seed).integers(0, 2, length // 5), 5).astype(np.float64)


# ---- D1: w x y z


@pytest.mark.parametrize("key, order", [("observation/eef_pose", "measured"), ("eef_pose_wxyz", "by name")])
def test_a_quaternion_with_the_scalar_first_is_drafted_by_what_is_commanded_or_by_name(tmp_path, key, order):
    """IsaacLab#5754."""

    def make(seed):
        command, pose = arm(seed)
        return {"action": np.column_stack([command, closing(seed)]), key: scalar_first(pose)}

    folder = write_npz(tmp_path / "arm", make)
    spec, draft = drafted(folder)
    assert spec.state.pose.form == "xyz_quat_wxyz", draft.guesses
    raw = read(NpzSource(folder, "arm", "1.0.0"))[3]
    expected = Rotation.from_quat(arm(3)[1][:, 3:])
    found = Rotation.from_euler("xyz", measured_pose(raw, spec.state)[:, 3:])
    assert (found * expected.inv()).magnitude().max() < 1e-6
    _, report = ingest(folder, tmp_path, spec, resolution=32)
    verdicts = json.loads((tmp_path / "out/quality.json").read_text())["verdicts"]
    signs = {v["scope"]: v["outcome"] for v in verdicts if v["detector"] == "action_sign"}
    assert report["dropped"] == {} and set(signs.values()) == {"ok"} and len(signs) == 6


@pytest.mark.parametrize("kept", ["xyzw", "wxyz"])
def test_where_nothing_tells_the_order_the_draft_asks_for_it(tmp_path, kept):
    """State and action alike: whatever the order, they agree."""

    def make(seed):
        pose = arm(seed)[1] if kept == "xyzw" else scalar_first(arm(seed)[1])
        return {"action": np.column_stack([np.roll(pose, -1, axis=0), closing(seed)]), "eef_pose": pose}

    _, draft = drafted(write_npz(tmp_path / "arm", make))
    for place in ("state.pose.quaternion", "action.quaternion"):
        assert draft.guesses[place].value == "?" and "w x y z" in draft.guesses[place].why
    asked = [line for line in draft.text.splitlines() if "# ?" in line and "w x y z" in line]
    assert len(asked) == 2, draft.text


def test_columns_that_lerobot_names_say_the_order(tmp_path):
    root = write_v2(tmp_path / "arm", [30] * 3)
    about = json.loads((root / "meta/info.json").read_text())
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["x", "y", "z", "qw", "qx", "qy", "qz"]
    about["features"]["observation.state"] = {"dtype": "float32", "shape": [7], "names": names}
    (root / "meta/info.json").write_text(json.dumps(about))
    for number, path in enumerate(sorted(root.glob("data/*/*.parquet"))):
        table, pose = pq.read_table(path), scalar_first(arm(number, 30)[1]).astype(np.float32)
        place = table.column_names.index("observation.state")
        pq.write_table(table.set_column(place, "observation.state", pa.array(list(pose))), path)
    spec, _ = drafted(root)
    assert spec.state.pose.form == "xyz_quat_wxyz"


def absolute_spec(form):
    values = spec_values()
    width = {"quat_xyzw": 7, "quat_wxyz": 7}.get(form, 6)
    values["state"] = {"pose": {"key": "pose", "slice": [0, width], "form": f"xyz_{form}", "units": ["m", "rad"]},
                       "gripper": None}  # fmt: skip
    values["action"]["translation"] |= {"key": "pose", "ops": [{"difference": {}}]}
    values["action"]["rotation"] |= {"key": "pose", "slice": [3, width],
                                     "ops": [{"difference": {"kind": "rotation", "form": form}}]}  # fmt: skip
    values["action"]["gripper"] = {"fill": 1.0, "raw": "none"}
    values["action"]["contract"]["live"] = "xyzrpw"
    return DatasetSpec.parse(values, file="x.yaml")


FORMS = ["quat_xyzw", "quat_wxyz", "axis_angle", "euler_xyz", "euler_xzy", "euler_yxz", "euler_yzx", "euler_zxy",
         "euler_zyx"]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_spec_can_say_every_form_of_a_rotation_and_its_difference_is_right_to_1e_6(form):
    turns = Rotation.from_quat(arm(5)[1][:, 3:])
    written = {"quat_xyzw": lambda: turns.as_quat(), "quat_wxyz": lambda: np.roll(turns.as_quat(), 1, axis=1),
               "axis_angle": lambda: turns.as_rotvec()}  # fmt: skip
    values = written.get(form, lambda: turns.as_euler(form.removeprefix("euler_")))()
    pose = np.concatenate([arm(5)[1][:, :3], values], axis=1)
    steps = {"pose": pose, "is_first": np.arange(LENGTH) == 0, "language_instruction": [b"go"] * LENGTH,
             "observation/image": [b"x"] * LENGTH}  # fmt: skip
    raw, spec = RawEpisode(steps, LENGTH, {}, "f", 0, 0, "0" * 64), absolute_spec(form)
    made = canonical_episode(raw, spec, "k", [])
    assert isinstance(made, Episode) and check_spec(spec) == []
    expected = (turns[1:] * turns[:-1].inv()).as_euler("xyz")
    np.testing.assert_allclose(made.action[:-1, 3:6], expected, atol=1e-6)
    found = Rotation.from_euler("xyz", measured_pose(raw, spec.state)[:, 3:])
    assert (found * turns.inv()).magnitude().max() < 1e-6


# ---- D5, D6: deltas that look like quaternions, ranges of grippers


@pytest.mark.parametrize("levels", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("scale", [1e-3, 0.02, 0.06])
def test_small_angles_and_a_gripper_are_no_quaternion(tmp_path, levels, scale):
    """unified-world-model#12: columns 3 to 7 have a norm near 1."""

    def make(seed):
        command = arm(seed)[0] * scale / 0.06
        return {"action": np.column_stack([command, np.array(levels)[closing(seed).astype(int)]])}

    folder = write_npz(tmp_path / "arm", make)
    spec, draft = drafted(folder)
    assert (spec.action.contract.form, draft.guesses["action.form"].value) == ("delta", "delta")
    assert spec.action.rotation.slice == [3, 6] and spec.action.gripper.slice == [6, 7]
    raw = read(NpzSource(folder, "arm", "1.0.0"))[0]
    np.testing.assert_array_equal(canonical_episode(raw, spec, "k", []).action[:, 6], closing(0))


def test_quaternions_whose_sign_flips_are_quaternions(tmp_path):
    def make(seed):
        pose = arm(seed)[1]
        pose[:, 3:] *= np.random.default_rng(seed).choice([-1.0, 1.0], (LENGTH, 1))
        return {"action": np.column_stack([pose, closing(seed)])}

    spec, _ = drafted(write_npz(tmp_path / "arm", make))
    assert (spec.action.rotation.slice, spec.action.gripper.slice) == ([3, 7], [7, 8])


RANGES = {"0 to 0.08 m": (0.0, 0.08, np.float32), "0 to 850": (0.0, 850.0, np.float32), "uint8": (0, 255, np.uint8),
          "-1 to 1": (-1.0, 1.0, np.float32), "0 to 1": (0.0, 1.0, np.float32), "0.02 to 0.1": (0.02, 0.1, np.float64),
          "closed to open angle": (0.0, -45.0, np.float64)}  # fmt: skip


@pytest.mark.parametrize("case", RANGES)
def test_the_range_of_a_gripper_is_measured_and_its_right_spec_holds_together(tmp_path, case):
    """BEHAVIOR-1K#1841, Evo-1#19: `closed` and `opened` in the recorder's unit; 1 is open."""
    closed, opened, dtype = RANGES[case]

    def make(seed):
        is_open = closing(seed)
        command = (closed + (opened - closed) * is_open).astype(dtype)
        sensor = np.concatenate([is_open[:1], is_open[:-1]])
        if dtype == np.uint8:
            return {"action": (np.ones((LENGTH, 7)) * command[:, None]).astype(np.uint8), "gripper_opening": sensor}
        return {"action": np.column_stack([arm(seed)[0], command]), "gripper_opening": sensor,
                "eef_pose": np.column_stack([arm(seed)[1][:, :3], np.zeros((LENGTH, 3))])}  # fmt: skip

    folder = write_npz(tmp_path / "arm", make)
    spec, draft = drafted(folder)
    assert [problem for problem in check_spec(spec) if "gripper" in problem.place] == [], draft.guesses[
        "action.gripper"
    ]
    made = canonical_episode(read(NpzSource(folder, "arm", "1.0.0"))[2], spec, "k", [])
    np.testing.assert_allclose(made.action[:, 6], closing(2), atol=1e-6)
    assert made.action_valid[:-1].all()


# ---- D7: a draft is no spec


def test_a_draft_with_open_questions_is_refused_line_by_line_and_one_without_is_taken(tmp_path):
    """44 joint columns, drafted as a pose: every line says so, and nobody had to read it."""
    write_npz(tmp_path / "arm", lambda seed: {"action": np.random.default_rng(seed).normal(size=(LENGTH, 44))})
    _, draft = drafted(tmp_path / "arm")
    (tmp_path / "arm.yaml").write_text(draft.text)
    with pytest.raises(ConfigError) as caught:
        load_answered_spec("arm", tmp_path)
    assert "44 columns: joints?" in draft.guesses["action"].why and "line 2:" in str(caught.value)
    assert caught.value.place == f"{draft.text.count('# ?')} lines marked `# ?`"
    (tmp_path / "arm.yaml").write_text(draft.text.replace("# ?", "#"))
    assert load_answered_spec("arm", tmp_path).name == "arm"


def test_a_question_mark_in_a_value_is_no_question(tmp_path):
    values = spec_values()
    values["licence"]["citation"] = "who # ? knows"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    assert load_answered_spec("tiny", tmp_path).licence.citation == "who # ? knows"


# ---- D8: damage ends in a named error


def write_hdf5(path, lengths=(5, 6, 7), image=None, **more):
    """Demos of robomimic's form; `image(demo, frames)` writes the pictures in a form of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, length in enumerate(lengths):
            demo, values = file.create_group(f"data/demo_{number}"), rows(number, length)
            demo["actions"], demo["obs/state"] = values["action"], values["observation.state"]
            frames = np.stack([picture(number % 4, step) for step in range(length)])
            if image is None:
                demo.create_dataset("obs/image", data=frames, chunks=(1, *frames.shape[1:]), compression="gzip")
            else:
                image(demo, frames)
        for mask, names in more.items():
            file[f"mask/{mask}"] = np.array(names, "S")
    return path.parent


def hdf5_spec(**changes):
    values = spec_values()
    values["source"] = {"format": "hdf5", "dataset": "tiny", "version": "1.0.0",
                        "splits": {"train": "all[:67%]", "val": "all[67%:]"}}  # fmt: skip
    values["cameras"]["primary"] |= {"key": "obs/image", "hw": [32, 32]}
    values["language"] = {"key": None, "encoding": "utf8", "scope": "step", "kind": "none"}
    for part in ("pose", "gripper"):
        values["state"][part]["key"] = "obs/state"
    for part in ("translation", "rotation", "gripper"):
        values["action"][part]["key"] = "actions"
    return DatasetSpec.parse(values | changes, file="data_specs/tiny.yaml")


def test_a_damaged_chunk_of_hdf5_is_an_error_of_its_episode(tmp_path):
    """bitshuffle#127."""
    folder = write_hdf5(tmp_path / "tiny" / "a.hdf5")
    with h5py.File(folder / "a.hdf5") as file:
        place = file["data/demo_1/obs/image"].id.get_chunk_info(3)
    data = bytearray((folder / "a.hdf5").read_bytes())
    data[place.byte_offset : place.byte_offset + place.size] = b"\xff" * place.size
    (folder / "a.hdf5").write_bytes(data)
    with pytest.raises(BadDataError, match="record 1: decode_error: frame 3 cannot be read") as caught:
        ingest(folder, tmp_path, hdf5_spec())
    assert "byte -1" not in str(caught.value)


def test_a_filter_that_hdf5_does_not_bring_along_is_named_with_its_remedy(tmp_path):
    folder = write_hdf5(tmp_path / "tiny" / "a.hdf5")
    with h5py.File(folder / "a.hdf5", "a") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 7))
        plist.set_filter(32008, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((5, 7))
        h5py.h5d.create(file["data/demo_0/obs"].id, b"shuffled", h5py.h5t.IEEE_F32LE, space, plist)
    source = Hdf5Source(folder, "tiny", "1.0.0")
    assert "needs the filter 32008" in source.left_out["obs/shuffled"]
    assert "h5repack" in read(source, keys={"actions", "obs/shuffled"})[0].detail


@pytest.mark.parametrize("optional", [True, False])
def test_a_primary_camera_without_pictures_is_an_error_of_its_episode_also_where_it_is_optional(tmp_path, optional):
    train = episodes([6, 6, 6])
    train[1]["steps/observation/image"] = [b""] * 6
    camera = spec_values()["cameras"]["primary"] | {"optional": optional}
    raw = write_rlds(tmp_path, {"train": [train], "val": [episodes([5], 9)]})
    with pytest.raises(BadDataError, match="record 1: decode_error: 'observation/image' step 0"):
        ingest(raw, tmp_path, tiny_spec(cameras={"primary": camera}))


# ---- D9: what the spec does not read blocks nothing


UNREAD_CLASSES = ["video_feature.Video", "bounding_boxes.BBoxFeature", "optional_feature.Optional",
                  "audio_feature.Audio", "labeled_image.LabeledImage"]  # fmt: skip


@pytest.mark.parametrize("kind", UNREAD_CLASSES)
def test_a_feature_of_a_kind_that_is_not_read_is_told_and_blocks_nobody_who_does_not_read_it(tmp_path, kind):
    tree = feature_tree()
    step = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    step["extra"] = {"pythonClassName": PACKAGE + kind}
    raw = write_rlds(tmp_path, {"train": [episodes([6, 7])], "val": [episodes([5], 9)]}, tree=tree)
    assert ingest(raw, tmp_path)[1]["dropped"] == {}
    assert kind in left_out(RldsSource(raw), tiny_spec())[0]
    camera = spec_values()["cameras"]["primary"] | {"key": "extra"}
    with pytest.raises(BadDataError, match=f"cannot be read[^$]*{kind}"):
        plan_tasks(raw, tiny_spec(cameras={"primary": camera}), config(), tmp_path / "w")


def test_an_empty_shard_and_a_shard_missing_where_nobody_reads_are_no_errors(tmp_path):
    """gpt-neo#82: a writer with nothing to write left a file of 0 bytes."""
    parts = {"train": [episodes([6, 7]), [], episodes([8], 3)], "val": [episodes([5], 9)], "test": [episodes([4], 5)]}
    raw = write_rlds(tmp_path, parts)
    next(raw.glob("*test*")).unlink()
    out, report = ingest(raw, tmp_path)
    assert report["kept"]["train"]["episodes"] == 3 and report["dropped"] == {}
    assert [row.key[-1] for row in ShardSet.open(out).episodes("train")] == ["0", "1", "2"]
    assert left_out(RldsSource(raw), tiny_spec()) == [
        "split test of the source: 1 episodes, not named in source.splits"
    ]
    asked = spec_values()["source"] | {"splits": {"train": "train", "val": "val", "test": "test"}}
    with pytest.raises(MissingInputError, match="tiny-test"):
        plan_tasks(raw, tiny_spec(source=asked), config(), tmp_path / "w")


@pytest.mark.parametrize("name", ["read me.txt", "größe.csv", "日本.md", "a,b;(1).log"])
def test_a_file_of_any_name_may_lie_in_the_folder(tmp_path, name):
    raw = write_rlds(tmp_path / "data", {"train": [episodes([6, 7])], "val": [episodes([5], 9)]})
    (raw / name).write_text("notes")
    (tmp_path / "tiny.json").write_text(json.dumps(describe_source(raw, "tiny")))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/tiny").symlink_to(raw)
    assert ingest(tmp_path / "tiny.json", tmp_path)[1]["dropped"] == {}


def test_npz_and_hdf5_files_with_such_names_are_read(tmp_path):
    folder = write_npz(tmp_path / "arm", lambda seed: {"action": arm(seed)[0]}, 2)
    (folder / "000.npz").rename(folder / "épisode 1.npz")
    assert all(isinstance(raw, RawEpisode) for raw in read(NpzSource(folder, "arm", "1.0.0")))


def test_odd_arrays_of_an_npz_that_no_spec_reads_are_told(tmp_path):
    odd = {"log": np.zeros(3), "objects": np.array([{"a": 1}], dtype=object)}
    folder = write_npz(tmp_path / "arm", lambda seed: {"action": arm(seed)[0]} | odd, 2)
    source = NpzSource(folder, "arm", "1.0.0")
    assert set(source.left_out) == {"log", "objects"} and "3 rows where the others have 40" in source.left_out["log"]
    assert all(isinstance(raw, RawEpisode) for raw in read(source, keys={"action", "image"}))
    assert all(isinstance(raw, Rejected) for raw in read(source, keys={"action", "objects"}))
    drafted(folder)


# ---- D11: names of splits


@pytest.mark.parametrize(
    "source, splits",
    [
        (
            {"training": 20, "validation": 4, "testing": 3},
            {"train": "training", "val": "validation", "test": "testing"},
        ),
        ({"train": 20, "dev": 4, "test": 3}, {"train": "train", "val": "dev", "test": "test"}),
    ],
)
def test_splits_of_other_names_are_mapped(tmp_path, source, splits):
    raw = write_rlds(tmp_path, {name: [episodes([3] * count)] for name, count in source.items()})
    assert drafted(raw)[0].source.splits == splits


def test_splits_that_a_draft_does_not_read_are_told(tmp_path):
    raw = write_rlds(tmp_path, {"expert": [episodes([3] * 14)], "test": [episodes([3] * 5, 3)]})
    spec, draft = drafted(raw)
    assert spec.source.slices()["train"].split == "expert" and "test (5 episodes)" in draft.guesses["source.splits"].why


# ---- D12: masks of robomimic


MASKS = {"train": ["demo_0", "demo_2"], "valid": ["demo_1"]}


def test_masks_are_splits_and_a_draft_takes_them(tmp_path):
    """EgoMimic#7."""
    folder = write_hdf5(tmp_path / "tiny" / "a.hdf5", **MASKS)
    spec, _ = drafted(folder, "tiny")
    assert {name: spec.source.splits[name] for name in ("val",)} == {"val": "valid"}
    assert spec.source.slices()["train"].split == "train"
    splits = hdf5_spec().source.model_dump() | {"splits": {"train": "train", "val": "valid"}}
    out, report = ingest(folder, tmp_path, hdf5_spec(source=splits))
    assert {name: count["episodes"] for name, count in report["kept"].items()} == {"train": 2, "val": 1}
    action = ShardSet.open(out).read_arrays(ShardSet.open(out).episodes("val")[0])["action"]
    np.testing.assert_array_equal(action[:-1], rows(1, 6)["action"][:-1])


def test_masks_that_a_spec_does_not_name_are_told_and_no_split_is_mixed_with_all(tmp_path):
    folder = write_hdf5(tmp_path / "tiny" / "a.hdf5", **MASKS, broken=["demo_9"])
    told = left_out(Hdf5Source(folder, "tiny", "1.0.0"), hdf5_spec())
    assert any("split valid of the source: 1 episodes" in line for line in told)
    assert any("demo_9" in line for line in told)
    mixed = hdf5_spec().source.model_dump() | {"splits": {"train": "all[:50%]", "val": "valid"}}
    with pytest.raises(ConfigError, match="holds the demos of every mask"):
        hdf5_spec(source=mixed)


def test_a_demo_in_two_masks_is_a_leak(tmp_path):
    folder = write_hdf5(tmp_path / "tiny" / "a.hdf5", train=["demo_0", "demo_1"], valid=["demo_1"])
    splits = hdf5_spec().source.model_dump() | {"splits": {"train": "train", "val": "valid"}}
    with pytest.raises(BadDataError, match="leaked_split"):
        ingest(folder, tmp_path, hdf5_spec(source=splits))


# ---- D13: forms of pictures


def encoded(frames):
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(f), quality=98, colorsubsampling="444") for f in frames]


def as_vlen(demo, frames):
    node = demo.create_dataset("obs/image", (len(frames),), dtype=h5py.vlen_dtype(np.uint8))
    for number, data in enumerate(encoded(frames)):
        node[number] = np.frombuffer(data, np.uint8)


def as_padded_rows(demo, frames):
    files = encoded(frames)
    rows_TN = np.zeros((len(files), max(map(len, files)) + 9), np.uint8)
    for number, data in enumerate(files):
        rows_TN[number, : len(data)] = np.frombuffer(data, np.uint8)
    demo["obs/image"] = rows_TN


def as_byte_strings(demo, frames):
    demo["obs/image"] = np.array(encoded(frames), "S")


def as_opaque(demo, frames):
    files = encoded(frames)
    demo["obs/image"] = np.array(files, f"V{max(map(len, files))}")


def as_planes(demo, frames):
    demo["obs/image"] = frames.transpose(0, 3, 1, 2)


def with_transparency(demo, frames):
    demo["obs/image"] = np.concatenate([frames, np.full((*frames.shape[:3], 1), 255, np.uint8)], axis=-1)


@pytest.mark.parametrize(
    "image",
    [as_vlen, as_padded_rows, as_byte_strings, as_opaque, as_planes, with_transparency],
    ids=lambda f: f.__name__,
)
def test_pictures_of_every_clear_form_are_read_from_hdf5(tmp_path, image):
    """human-policy#11."""
    folder = write_hdf5(tmp_path / "tiny" / "a.hdf5", image=image)
    out, report = ingest(folder, tmp_path, hdf5_spec(), resolution=32)
    assert report["dropped"] == {}
    frames = ShardSet.open(out).read_frames(ShardSet.open(out).episodes("train")[0], 0, 5)
    assert max(np.abs(frames[step].astype(int) - picture(0, step)).max() for step in range(5)) <= 6
    assert drafted(folder, "tiny")[0].cameras["primary"].key == "obs/image"


@pytest.mark.parametrize("change", [lambda f: f.astype(np.float32) / 255.0, lambda f: f[..., :1]])
def test_pictures_that_are_not_clear_are_refused_with_a_remedy(tmp_path, change):
    folder = write_hdf5(tmp_path / "tiny" / "a.hdf5",
                        image=lambda demo, frames: demo.__setitem__("obs/image", change(frames)))  # fmt: skip
    with pytest.raises(BadDataError, match=r"uint8 \(T, H, W, 3\).*convert floats to uint8"):
        ingest(folder, tmp_path, hdf5_spec())


def test_a_tensor_of_rlds_that_holds_pictures_is_a_camera(tmp_path):
    made = episodes([6, 7, 8])
    tree = feature_tree()
    step = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    shape = {"dimensions": ["24", "24", "3"]}
    step["observation"]["featuresDict"]["features"]["image"] = {
        "pythonClassName": PACKAGE + "tensor_feature.Tensor", "tensor": {"shape": shape, "dtype": "uint8"}
    }  # fmt: skip
    for each in made:
        pixels = np.stack([decode(data) for data in each["steps/observation/image"]])
        each["steps/observation/image"] = pixels.astype(np.int64).ravel()
    raw = write_rlds(tmp_path, {"train": [made[:2]], "val": [made[2:]]}, tree=tree)
    out, report = ingest(raw, tmp_path, resolution=24)
    assert report["dropped"] == {}
    frame = ShardSet.open(out).read_frames(ShardSet.open(out).episodes("train")[0], 2, 3)[0]
    expected = made[0]["steps/observation/image"].reshape(6, 24, 24, 3)[2]
    assert np.abs(frame.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("flip", ["vertical", "horizontal"])
@pytest.mark.parametrize("rotate", [0, 180])
def test_a_picture_that_is_stored_upside_down_is_turned_over(flip, rotate):
    """openvla#295: a flip is no rotation."""
    right = np.zeros((32, 32, 3), np.uint8)
    right[:8, :8] = [200, 40, 40]
    stored = right[::-1] if flip == "vertical" else right[:, ::-1]
    stored = stored if rotate == 0 else np.rot90(stored, 2)
    camera = tiny_spec(
        cameras={"primary": spec_values()["cameras"]["primary"] | {"flip": flip, "rotate": rotate}}
    ).cameras["primary"]
    (data,) = encoded([stored])
    made = canonical_frame(data, resolution=32, quality=98, hw=[32, 32], rotate=camera.rotate, flip=camera.flip)
    assert np.abs(decode(made).astype(int) - right).max() < 30


# ---- D14, D15


def test_an_optional_camera_that_the_dataset_does_not_have_is_skipped_and_counted(tmp_path):
    raw = write_rlds(tmp_path, {"train": [episodes([6, 7])], "val": [episodes([5], 9)]})
    primary = spec_values()["cameras"]["primary"]
    cameras = {"primary": primary, "wrist": primary | {"key": "observation/wrist", "optional": True}}
    for name, roles in (("a", ["primary"]), ("b", ["primary", "wrist"])):
        out, report = ingest(raw, tmp_path, tiny_spec(cameras=cameras), name=name, cameras=roles)
        assert report["dropped"] == {}
        verdicts = json.loads((out / "quality.json").read_text())["verdicts"]
        said = [v["found"] for v in verdicts if (v["detector"], v["scope"]) == ("missing_camera", "wrist")]
        assert said == ["absent in 3 of 3 episodes"]


def test_a_plane_is_drafted_from_two_numbers(tmp_path):
    def make(seed):
        return {"action": arm(seed)[0][:, :2], "eef_pos": arm(seed)[1][:, :3]}

    folder = write_npz(tmp_path / "arm", make)
    spec, _ = drafted(folder)
    assert (spec.action.translation.slice, spec.action.contract.live) == ([0, 2], "xy") and check_spec(spec) == []
    made = canonical_episode(read(NpzSource(folder, "arm", "1.0.0"))[0], spec, "k", [])
    np.testing.assert_allclose(made.action[:-1, :3], np.pad(arm(0)[0][:-1, :2], ((0, 0), (0, 1))), atol=1e-6)


def test_videos_without_actions_are_a_dataset_for_the_tokenizer(tmp_path):
    """As docs/how-to/add-a-dataset.md says: constants for what was never recorded, and nothing is called live."""
    values = lerobot_spec().model_dump(mode="json")
    values["state"], fixed = None, {"fill": 0.0}
    contract = {
        "frame": "unknown",
        "form": "delta",
        "live": "",
        "limit": None,
        "retraceable": False,
        "last_step": "unknown",
    }
    values["action"] = {"translation": fixed, "rotation": fixed, "gripper": {"fill": 1.0, "raw": "none"},
                        "contract": contract}  # fmt: skip
    root = write_v2(tmp_path / "tiny", [8, 9, 7])
    import pyarrow.parquet as pq

    for path in root.glob("data/*/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["action", "observation.state"]), path)
    spec = DatasetSpec.parse(values, file="tiny.yaml")
    assert check_spec(spec) == []
    out, report = ingest(root, tmp_path, spec)
    assert report["dropped"] == {} and report["kept"]["train"]["episodes"] == 2
    assert json.loads((out / "contract.json").read_text())["action_mask"] == [False] * 7 and CAMERA in str(spec)


def test_a_split_that_is_left_without_an_episode_is_refused(tmp_path):
    raw = write_rlds(tmp_path, {"train": [episodes([8, 9])], "val": [episodes([4], 9)]})
    spec = tiny_spec(episodes=spec_values()["episodes"] | {"min_steps": 6})
    with pytest.raises(BadDataError, match=r"a split is left without an episode[^$]*source\.splits: val[^$]*too_short"):
        ingest(raw, tmp_path, spec)


@pytest.mark.parametrize("width", [6, 7, 8])
@pytest.mark.parametrize("norm", [0.97, 0.985, 1.015])
def test_states_near_norm_1_are_drafted_as_what_the_reader_takes(tmp_path, width, norm):
    """Guess and operation share one tolerance."""

    def make(seed):
        state = np.random.default_rng(seed).normal(size=(LENGTH, width))
        if width > 6:
            state[:, 3:7] *= norm / np.linalg.norm(state[:, 3:7], axis=1, keepdims=True)
        return {"action": arm(seed)[0], "eef_state": state}

    spec, _ = drafted(write_npz(tmp_path / "arm", make, 4))
    assert spec.state.pose.form == "xyz_rpy"
