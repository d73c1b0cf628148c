"""`whale data prove`: a good conversion of each format proves; each planted difference is found, and where it is."""

import json
import shutil
from itertools import islice

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from ingest_fixture import ingest
from lerobot_fixture import lerobot_spec, picture, rows, write_v2, write_v3, write_video
from rlds_fixture import spec_values, tiny_spec

from whale.audit.conversion.compare import Measured, compare_stored
from whale.audit.conversion.prove import CONVERSION_TYPE, LISTING, _compare_lists, prove
from whale.audit.conversion.stored import index_rows, read_sample
from whale.cli import run as whale
from whale.common.config import load_yaml
from whale.common.errors import BadDataError, MismatchError
from whale.data.ingest.sources.npz import NpzReader
from whale.data.spec.spec import DatasetSpec, load_spec
from whale.lineage import ledger
from whale.runtime.collecting.rlds_writer import SplitSource, write_rlds

SIZE, LENGTHS = 32, (9, 8, 7, 8)


def film(seed: int, length: int) -> np.ndarray:
    """uint8 (T, H, W, 3): a bright square wanders over a ramp; neighbours differ by one pixel of its place."""
    image = np.tile(np.linspace(20, 90, SIZE)[:, None, None], (length, 1, SIZE, 1)) + np.array([40.0, 0.0, 15.0 * seed])
    for t in range(length):
        image[t, 6 + seed : 14 + seed, 3 + t : 13 + t] = [210, 120, 60]
    return image.astype(np.uint8)


def arrays(number: int) -> dict[str, np.ndarray]:
    length = LENGTHS[number]
    values = rows(number, length)
    return {"action": values["action"], "state": values["observation.state"], "image": film(number, length),
            "text": np.array(f"push block {number}")}  # fmt: skip


def write_npz(root, spoil=lambda number, values: values):
    root.mkdir(parents=True)
    for number in range(len(LENGTHS)):
        values = spoil(number, arrays(number))
        if values is not None:
            np.savez(root / f"{number:03d}.npz", **values)
    return root


def npz_spec(**changes) -> DatasetSpec:
    values = spec_values()
    values["source"] = {"format": "npz", "dataset": "tiny", "version": "1.0.0"}
    values["source"]["splits"] = {"train": "all[:50%]", "val": "all[50%:]"}
    values["cameras"]["primary"] |= {"key": "image", "hw": [SIZE, SIZE]}
    values["language"] = {"key": "text", "encoding": "utf8", "scope": "episode", "kind": "natural"}
    values["state"]["pose"]["key"] = values["state"]["gripper"]["key"] = "state"
    return DatasetSpec.parse(values | changes, file="data_specs/tiny.yaml")


def swapped(number, v):
    image = v["image"].copy()
    image[[3, 4]] = image[[4, 3]]
    return v | {"image": image}


def patched(number, v):
    image = v["image"].copy()
    image[4, 20:26, 20:26] += 90
    return v | {"image": image}


# What a wrong conversion does -> (how, field of the difference, its step).
PLANTED = {
    "swapped frames": (swapped, "primary", 3),
    "frames one step late": (
        lambda n, v: v | {"image": np.concatenate([v["image"][:1], v["image"][:-1]])},
        "primary",
        1,
    ),
    "frames one step early": (lambda n, v: v | {"image": np.roll(v["image"], -1, axis=0)}, "primary", 0),
    "channels the other way": (lambda n, v: v | {"image": v["image"][..., ::-1]}, "primary", 0),
    "mirrored": (lambda n, v: v | {"image": v["image"][:, :, ::-1]}, "primary", 0),
    "upside down": (lambda n, v: v | {"image": v["image"][:, ::-1]}, "primary", 0),
    "a small wrong part": (patched, "primary", 4),
    "another episode's film": (lambda n, v: v | {"image": film(n + 5, LENGTHS[n])}, "primary", 0),
    "truncated text": (lambda n, v: v | {"text": np.array(str(v["text"])[:-3])}, "language", None),
    "scaled action": (lambda n, v: v | {"action": v["action"] * np.float32([1.001] * 6 + [1])}, "action x", 0),
    "actions one step late": (lambda n, v: v | {"action": np.roll(v["action"], 1, axis=0)}, "action x", 0),
    "radians for degrees": (
        lambda n, v: v | {"action": v["action"] * np.float32([1] * 5 + [0.0174533, 1])},
        "action yaw",
        0,
    ),
    "gripper the other way": (
        lambda n, v: v | {"action": np.c_[v["action"][:, :6], 1 - v["action"][:, 6:]]},
        "action gripper",
        0,
    ),
    "cut at the end": (lambda n, v: v | {k: v[k][:-1] for k in ("action", "state", "image")}, "length of action", None),
}


def found(proof, field):
    return [each for each in proof.differences if each.field == field]


@pytest.mark.parametrize("side", [32, 24, 48])
def test_a_good_conversion_of_npz_proves(tmp_path, side):
    raw = write_npz(tmp_path / "raw")
    out, _ = ingest(raw, tmp_path, npz_spec(), resolution=side)
    proof = prove(out, raw, npz_spec(), None)
    assert proof.differences == [] and len(proof.sampled) == 4
    assert (proof.measured.frames, proof.measured.actions) == (sum(LENGTHS), sum(LENGTHS))
    assert proof.measured.action < 1e-7 and proof.measured.frame_mean < 1.8 and proof.measured.frame_block < 6.0


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_is_found_where_it_is(tmp_path, name):
    """The shards are sound and sealed; what they hold is not what the source holds."""
    spoil, field, step = PLANTED[name]
    raw = write_npz(tmp_path / "raw")
    other = write_npz(tmp_path / "other", lambda n, v: spoil(n, v) if n == 2 else v)
    out, _ = ingest(other, tmp_path, npz_spec())
    proof = prove(out, raw, npz_spec(), None)
    assert [(each.episode, each.step) for each in found(proof, field)] == [("tiny-val-0000002", step)]
    fields = {each.field for each in proof.differences if each.field != "source file"}
    assert all(each.episode == "tiny-val-0000002" for each in proof.differences if each.field in fields)
    assert found(proof, "source file")  # and the manifest names other source files
    assert found(proof, field)[0].found != found(proof, field)[0].expected


def test_a_late_frame_is_told_by_the_step_that_it_shows(tmp_path):
    raw = write_npz(tmp_path / "raw")
    late = PLANTED["frames one step late"][0]
    out, _ = ingest(write_npz(tmp_path / "other", late), tmp_path, npz_spec(), resolution=32)
    assert "nearer to step 0" in found(prove(out, raw, npz_spec(), None), "primary")[0].found


def test_a_dropped_episode_is_named_whatever_is_drawn(tmp_path):
    raw = write_npz(tmp_path / "raw")
    out, _ = ingest(write_npz(tmp_path / "other", lambda n, v: None if n == 3 else v), tmp_path, npz_spec())
    keys = {each.episode for each in found(prove(out, raw, npz_spec(), 1), LISTING)}
    assert "tiny-val-0000003" in keys


def test_episodes_that_a_spec_drops_are_judged_and_damaged_ones_are_counted(tmp_path):
    spec = npz_spec(episodes={"filters": [], "edits": [], "min_steps": 8})
    raw = write_npz(tmp_path / "raw", lambda n, v: v | ({"image": v["image"][:, :8, :8]} if n == 1 else {}))
    out, report = ingest(raw, tmp_path, spec, max_bad=1)
    assert set(report["dropped"]) == {"too_short", "dtype_mismatch"}
    proof = prove(out, raw, spec, None)
    assert proof.differences == [] and proof.not_judged == {"dtype_mismatch": 1}
    longer = write_npz(tmp_path / "longer", lambda n, v: arrays(0) if n == 2 else v)  # which the spec would keep
    (each,) = found(prove(out, longer, spec, None), "episode")
    assert (each.episode, each.found, each.expected) == ("tiny-val-0000002", "dropped as too_short", "kept")


def test_shards_of_another_spec_are_refused(tmp_path):
    raw = write_npz(tmp_path / "raw")
    out, _ = ingest(raw, tmp_path, npz_spec())
    other = npz_spec(episodes={"filters": [], "edits": ["drop_last"], "min_steps": 2})
    with pytest.raises(MismatchError, match="another spec"):
        prove(out, raw, other, None)


@pytest.mark.parametrize("turned", [{"rotate": 180}, {"channels": "bgr"}, {"flip": "vertical"}, {"flip": "horizontal"}])
def test_conventions_of_pictures_and_edits_are_applied_by_both(tmp_path, turned):
    values = npz_spec().model_dump(mode="json")
    camera = values["cameras"]["primary"] | turned
    difference = [{"difference": {"wrap": False}}]
    part = {"key": "state", "slice": [0, 3], "unit": "m", "ops": difference}
    turn = {"key": "state", "slice": [3, 6], "unit": "rad", "ops": [{"difference": {"kind": "rotation"}}]}
    grip = values["action"]["gripper"] | {"ops": ["invert", {"binarize": {"open": 0.9, "closed": 0.1}}]}
    action = values["action"] | {"translation": part, "rotation": turn, "gripper": grip}
    edits = {"filters": [], "edits": ["drop_first", "drop_last"], "min_steps": 2}
    spec = npz_spec(cameras={"primary": camera}, action=action, episodes=edits)
    raw = write_npz(tmp_path / "raw")
    out, _ = ingest(raw, tmp_path, spec)
    assert prove(out, raw, spec, None).differences == []


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobot_proves_and_another_episodes_video_is_found(tmp_path, version):
    lengths, spec = [7, 8, 6, 7], lerobot_spec("2.1.0" if version == "v2.1" else "3.0.0")

    def write(root):
        return write_v2(root / "tiny", lengths) if version == "v2.1" else write_v3(root / "tiny", [lengths])

    raw = write(tmp_path / "raw")
    out, _ = ingest(raw, tmp_path, spec)
    proof = prove(out, raw, spec, None)
    assert proof.differences == [] and proof.measured.frames == sum(lengths)
    other = write(tmp_path / "other")
    films = [[picture(episode, step) for step in range(length)] for episode, length in enumerate(lengths)]
    films[1][:7], films[0] = films[0], films[1][:7]
    if version == "v2.1":
        for episode in (0, 1):
            write_video(other / f"videos/chunk-000/observation.images.top/episode_{episode:06d}.mp4", films[episode])
    else:
        write_video(
            other / "videos/observation.images.top/chunk-000/file-000.mp4", [image for film in films for image in film]
        )
    wrong, _ = ingest(other, tmp_path, spec, name="wrong")
    keys = {each.episode for each in found(prove(wrong, raw, spec, None), "primary")}
    assert keys == {"tiny-train-0000000", "tiny-train-0000001"}


def test_hdf5_proves_and_swapped_demos_are_found(tmp_path):
    values = npz_spec().model_dump(mode="json")
    text = {"key": "language_instruction", "encoding": "utf8", "scope": "episode", "kind": "natural"}
    cameras = {"primary": values["cameras"]["primary"] | {"key": "obs/image"}}
    for part in ("translation", "rotation", "gripper"):
        values["action"][part]["key"] = "actions"
    spec = npz_spec(source=values["source"] | {"format": "hdf5"}, cameras=cameras, language=text, state=None,
                    action=values["action"])  # fmt: skip

    def write(root, order):
        root.mkdir()
        with h5py.File(root / "task.hdf5", "w") as file:
            data = file.create_group("data")
            data.attrs["problem_info"] = json.dumps({"language_instruction": "open the drawer"})
            for place, number in enumerate(order):
                demo = data.create_group(f"demo_{place + 8}")  # demo_8 before demo_10
                demo.create_dataset("actions", data=arrays(number)["action"])
                demo.create_dataset("obs/image", data=arrays(number)["image"])
        return root

    raw = write(tmp_path / "raw", [0, 1, 2, 3])
    out, _ = ingest(raw, tmp_path, spec)
    assert prove(out, raw, spec, None).differences == []
    wrong, _ = ingest(write(tmp_path / "other", [0, 3, 2, 1]), tmp_path, spec, name="wrong")
    proof = prove(wrong, raw, spec, None)
    assert {each.episode for each in found(proof, "action x")} == {"tiny-train-0000001", "tiny-val-0000003"}


def rlds_episode(number: int) -> dict:
    values, length = arrays(number), LENGTHS[number]
    flags = {"is_first": np.arange(length) == 0, "is_last": np.arange(length) == length - 1}
    observation = {"state": values["state"].astype(np.float32), "image": values["image"]}
    text = [f"push block {number}"] * length
    steps = {"action": values["action"], "observation": observation, "language_instruction": text, **flags}
    return {"steps": steps, "episode_metadata": {"number": number}}


def write_by_tfds(root, made):
    schema = {"action": "float32[7]", "observation": {"state": "float32[7]", "image": f"png[{SIZE},{SIZE},3]"}}
    schema |= {"language_instruction": "text", "is_first": "bool[]", "is_last": "bool[]"}
    splits = [SplitSource("train", 2, 2, made[:2]), SplitSource("val", 2, 1, made[2:])]
    return write_rlds(root, "tiny", "1.0.0", schema, {"episode_metadata": {"number": "int64[]"}}, splits)


@pytest.mark.slow
def test_rlds_proves_against_tfds_and_a_wrong_episode_is_found(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    made = [rlds_episode(number) for number in range(4)]
    camera = spec_values()["cameras"]["primary"] | {"hw": [SIZE, SIZE]}
    spec = tiny_spec(cameras={"primary": camera})
    raw = write_by_tfds(tmp_path / "raw", made)
    out, _ = ingest(raw, tmp_path, spec)
    proof = prove(out, raw, spec, None)
    assert proof.differences == [] and "tensorflow_datasets" in proof.readers[1]
    assert proof.measured.frames == sum(LENGTHS)
    steps = made[1]["steps"]
    steps["observation"]["image"] = steps["observation"]["image"][::-1]
    steps["action"] = steps["action"] * np.float32([1.01] * 6 + [1])
    steps["language_instruction"] = ["push bl"] * LENGTHS[1]
    other = write_by_tfds(tmp_path / "other", made)
    wrong, _ = ingest(other, tmp_path, spec, name="wrong")
    proof = prove(wrong, raw, spec, None)
    assert {each.episode for each in proof.differences if each.field != "source file"} == {"tiny-train-0000001"}
    assert found(proof, "primary") and found(proof, "action x") and found(proof, "language")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one ingested dataset."""
    monkeypatch.chdir(tmp_path)
    raw = write_npz(tmp_path / "source")
    out, _ = ingest(raw, tmp_path, npz_spec())
    shards = tmp_path / "artifacts/demo/data/pretrain/shards/tiny"
    shards.parent.mkdir(parents=True)
    shutil.copytree(out, shards)
    (tmp_path / "data_specs").mkdir()
    (tmp_path / "data_specs/tiny.yaml").write_text(yaml.safe_dump(plain_spec()))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"datasets": {"tiny": {"raw": "source", "role": "pretrain"}}}))
    return tmp_path


def plain_spec() -> dict:
    values = npz_spec().model_dump(mode="json", exclude_none=True)
    for part in ("translation", "rotation", "gripper"):
        values["action"][part]["ops"] = []
    values["action"]["contract"]["limit"] = None
    values["expect"] = {"episodes": None, "steps": None, "source": "test"}
    values["episodes"] |= {"accept": [], "exclude": {}}
    return values


def test_the_command_signs_what_it_found(project, capsys):
    assert whale(["data", "prove", "tiny", "--episodes", "2"]) == 0
    said = capsys.readouterr().out
    assert "equal: the conversion is 1:1" in said and "numpy" in said
    (entry,) = ledger.read()
    predicate = entry.statement["predicate"]
    assert entry.statement["predicateType"] == CONVERSION_TYPE and predicate["equal"] is True
    assert predicate["sampled"]["episodes"] == 2 and predicate["episodes"] == 4
    assert whale(["data", "prove", "tiny", "--all", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compared"]["frames"] == sum(LENGTHS)
    assert len(ledger.read()) == 1


def test_the_command_ends_with_3_and_names_the_place(project, capsys):
    shutil.rmtree(project / "source")
    write_npz(project / "source", lambda n, v: PLANTED["scaled action"][0](n, v) if n == 1 else v)
    assert whale(["data", "prove", "tiny", "--all", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    (each,) = [each for each in found["differences"] if each["field"] == "action x"]
    assert (each["episode"], each["step"], found["equal"]) == ("tiny-train-0000001", 0, False)
    assert ledger.read()[0].statement["predicate"]["equal"] is False
    assert whale(["data", "prove", "tiniest"]) == 64  # a usage error: no such dataset
    assert "one of: tiny" in capsys.readouterr().err
    assert whale(["data", "prove", "tiny", "--all", "--dry-run"]) == 3
    assert "tiny-train-0000001 step 0: action x: found" in capsys.readouterr().out


def test_a_seed_below_zero_is_refused_before_anything_is_read(project):
    assert whale(["data", "prove", "tiny", "--seed", "-1"]) == 64


def test_what_was_compared_and_what_was_not_is_counted(tmp_path):
    spec = npz_spec(episodes={"filters": [], "edits": [], "min_steps": 8})
    raw = write_npz(tmp_path / "raw", lambda n, v: v | ({"image": v["image"][:, :8, :8]} if n == 1 else {}))
    out, _ = ingest(raw, tmp_path, spec, max_bad=1)
    proof = prove(out, raw, spec, None)
    assert (proof.measured.episodes, proof.measured.dropped, proof.not_judged) == (2, 1, {"dtype_mismatch": 1})
    assert proof.verdict == "equal" and proof.to_json()["compared"]["episodes"] == 2


def test_a_draw_of_dropped_episodes_alone_proves_nothing(project, capsys):
    """Before, episodes that nobody had compared were said to be equal, and signed for."""
    raw = project / "source"
    values = arrays(0)
    np.savez(raw / "000.npz", **(values | {"image": values["image"][:, :8, :8]}))
    shutil.rmtree(project / "artifacts")
    out, _ = ingest(raw, project, npz_spec(), max_bad=1, name="broken")
    shutil.copytree(out, project / "artifacts/demo/data/pretrain/shards/tiny")
    seed = next(s for s in range(99) if prove(out, raw, npz_spec(), 1, s).sampled == ("tiny-train-0000000",))
    assert whale(["data", "prove", "tiny", "--episodes", "1", "--seed", str(seed)]) == 4
    said = capsys.readouterr().out
    assert "NOTHING COMPARED" in said and "--all" in said and "equal" not in said
    predicate = ledger.read()[-1].statement["predicate"]
    assert predicate["equal"] is False and predicate["verdict"] == "nothing compared"
    assert predicate["compared"]["episodes"] == 0


def test_a_reader_that_ends_early_is_a_difference(tmp_path, monkeypatch):
    """The unit promises four episodes; a reader that gives two of them has compared two."""
    raw = write_npz(tmp_path / "raw")
    out, _ = ingest(raw, tmp_path, npz_spec())
    monkeypatch.setattr(NpzReader, "__iter__", lambda self, whole=NpzReader.__iter__: islice(whole(self), 2))
    proof = prove(out, raw, npz_spec(), None)
    assert {each.episode for each in found(proof, "episode")} == {"tiny-val-0000002", "tiny-val-0000003"}
    assert proof.measured.episodes == 2 and proof.verdict == "differs"


def test_one_camera_of_fewer_frames_is_no_agreement(tmp_path):
    """The shorter of two films was all that was compared."""
    out, _ = ingest(write_npz(tmp_path / "raw"), tmp_path, npz_spec())
    sample = read_sample(out, index_rows(out)[0]["shard"], "tiny-train-0000000")
    images = np.stack(sample.pixels("primary"))
    for frames in ({"primary": images[:-1]}, {}, {"primary": images, "wrist": images}):
        seen = Measured()
        compare_stored("x", sample, sample.arrays, frames, seen)
        assert len(seen.differences) == 1 and seen.differences[0].field.startswith("stored: ")


def test_an_index_row_twice_or_of_another_split_is_named(tmp_path):
    seen = Measured()
    listed = [{"key": "a", "split": "train"}, {"key": "b", "split": "val"}, {"key": "b", "split": "val"}]
    rows = _compare_lists({"a": "val", "b": "val"}, listed, seen)
    assert [each.episode for each in seen.differences] == ["a", "b"] and list(rows) == ["b"]


@pytest.mark.parametrize("spoil", ["not parquet", "no columns", "no shard"])
def test_a_damaged_index_or_shard_ends_in_a_named_error(tmp_path, spoil):
    out, _ = ingest(write_npz(tmp_path / "raw"), tmp_path, npz_spec())
    row = index_rows(out)[0]
    if spoil == "not parquet":
        (out / "episodes.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    elif spoil == "no columns":
        pq.write_table(pa.table({"key": ["a"]}), out / "episodes.parquet")
    with pytest.raises(BadDataError, match=r"episodes.parquet|\.tar"):
        index_rows(out)
        (out / row["shard"]).write_bytes(b"no tar at all" * 100)
        read_sample(out, row["shard"], row["key"])


def test_the_draw_is_the_seeds(tmp_path):
    raw = write_npz(tmp_path / "raw")
    out, _ = ingest(raw, tmp_path, npz_spec())
    draws = [prove(out, raw, npz_spec(), 2, seed).sampled for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1] and len(set(draws)) > 1 and all(len(draw) == 2 for draw in draws)


@pytest.mark.real_data
@pytest.mark.slow
def test_the_bridge_sample_is_converted_one_to_one(real_data, project_root, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    spec, raw = load_spec("bridge_sample", project_root / "data_specs"), real_data / "octo_bridge_rlds"
    out, _ = ingest(raw, tmp_path, spec, resolution=48)
    proof = prove(out, raw, spec, 6)
    assert proof.differences == [] and proof.measured.actions > 0


@pytest.mark.real_data
def test_the_metaworld_sample_is_converted_one_to_one(real_data, project_root, tmp_path):
    values = load_yaml(project_root / "data_specs" / "metaworld.yaml")
    values["source"] |= {"format": "npz", "splits": {"train": "all[:70%]", "val": "all[70%:]"}}
    values["cameras"]["primary"]["key"] = "observation[6:9]"
    values["language"] = {"key": None, "encoding": "utf8", "scope": "step", "kind": "none"}
    values["episodes"] |= {"edits": ["shift_action"], "accept": []}
    values["state"] = None
    spec, raw = DatasetSpec.parse(values, file="x"), real_data / "ivideogpt_metaworld_demos"
    out, _ = ingest(raw, tmp_path, spec, resolution=64)
    proof = prove(out, raw, spec, None)
    assert proof.differences == [] and proof.measured.frames == 606


@pytest.mark.real_data
@pytest.mark.slow
def test_the_groot_sample_is_converted_one_to_one(real_data, tmp_path):
    """Its clock begins at 0.05 s: whoever takes time stamps as they are is one frame off."""
    raw = real_data / "groot_dreams_lerobot_v20" / "robot_sim.PickNPlace"
    key = "observation.images.ego_view"
    values = lerobot_spec("2.0.0").model_dump(mode="json")
    values["source"]["dataset"] = "robot_sim.PickNPlace"
    values["robot"]["control_hz"] = 20.0
    camera = values["cameras"]["primary"] | {"key": key, "hw": [256, 256]}
    known = {"what": "columns of joint angles", "source": "modality.json", "repair": "none"}
    names = ["absolute_as_delta", "out_of_range", "dead_dims"]
    episodes = {"filters": [], "edits": [], "min_steps": 2, "accept": names}
    errata = [known | {"id": f"joints_{number}", "detector": name} for number, name in enumerate(names)]
    changes = {"source": values["source"], "robot": values["robot"], "cameras": {"primary": camera}, "state": None}
    spec = lerobot_spec("2.0.0", **changes, episodes=episodes, errata=errata)
    out, _ = ingest(raw, tmp_path, spec, resolution=64, quality={"policy": "fail", "budget": 5}, max_bad=5)
    proof = prove(out, raw, spec, 2)
    assert proof.differences == [] and proof.measured.frames > 600
