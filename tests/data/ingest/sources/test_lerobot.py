"""LeRobot v2.0, v2.1 and v3.0: rows and frames by index, and what a damaged dataset gets."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_fixture import ingest
from lerobot_fixture import CAMERA, FPS, TASKS, lerobot_spec, picture, rows, write_v2, write_v3, write_video

from whale.common.errors import BadDataError, MismatchError, MissingInputError
from whale.data.ingest.sources import columns
from whale.data.ingest.sources.columns import read_columns
from whale.data.ingest.sources.lerobot import LeRobotSource
from whale.data.ingest.sources.location import describe_source
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected
from whale.data.storage.images import decode
from whale.data.storage.shards import ShardSet

LENGTHS = [5, 8, 6]


@pytest.fixture(params=["v2.0", "v2.1", "v3.0"])
def source(request, tmp_path):
    root = tmp_path / "tiny"
    if request.param == "v3.0":
        written = write_v3(root, [LENGTHS[:2], LENGTHS[2:]])
    else:
        written = write_v2(root, LENGTHS, request.param)
    return LeRobotSource(written, "tiny")


def read(source, split="all"):
    readers = [source.read_shard(split, index) for index in range(len(source.splits[split]))]
    return [raw for reader in readers for raw in reader]


def test_every_version_gives_the_same_rows_texts_and_frames(source):
    episodes = read(source)
    assert [raw.num_steps for raw in episodes] == LENGTHS
    for number, raw in enumerate(episodes):
        assert isinstance(raw, RawEpisode)
        for name, values in rows(number, LENGTHS[number]).items():
            np.testing.assert_array_equal(raw.steps[name], values)
        assert set(raw.steps["task"]) == {TASKS[number % 2].encode()}
        assert raw.steps["is_first"].tolist() == [True] + [False] * (LENGTHS[number] - 1)
        assert raw.steps["is_last"].tolist() == [False] * (LENGTHS[number] - 1) + [True]
        frames = list(raw.steps[CAMERA])
        assert len(frames) == LENGTHS[number]
        for step, frame in enumerate(frames):
            assert np.abs(decode(frame).astype(int) - picture(number, step)).max() <= 6


def test_frames_can_be_cut_and_picked_without_reading_the_rest(source):
    frames = read(source)[1].steps[CAMERA]
    whole = list(frames)
    assert list(frames[2:7]) == whole[2:7] and list(frames[2:7][1:3]) == whole[3:5] and frames[4] == whole[4]
    assert len(frames[:0]) == 0 and list(frames[:0]) == []


def test_a_file_of_many_episodes_is_decoded_once_when_they_are_read_in_order(tmp_path):
    source = LeRobotSource(write_v3(tmp_path / "tiny", [LENGTHS]), "tiny")
    reader = source.read_shard("all", 0)
    episodes = list(reader)
    frames = [list(raw.steps[CAMERA]) for raw in episodes]
    assert reader.videos[CAMERA].starts == 1
    assert list(episodes[0].steps[CAMERA]) == frames[0] and reader.videos[CAMERA].starts == 2


def test_the_whole_way_into_shards_and_back(source, tmp_path):
    spec = lerobot_spec(source.version)
    out, report = ingest(source.directory, tmp_path, spec)
    assert report["read"] == {"episodes": 3, "steps": sum(LENGTHS), "valid_steps": 0}
    assert {split: count["episodes"] for split, count in report["kept"].items()} == {"train": 2, "val": 1}
    row = ShardSet.open(out, verify="always").episodes("train")[1]
    arrays = ShardSet.open(out).read_arrays(row)
    np.testing.assert_array_equal(arrays["action"][:-1], rows(1, LENGTHS[1])["action"][:-1])
    assert row.language == TASKS[1]


def test_a_video_with_another_number_of_frames_than_rows_is_found(tmp_path):
    root = write_v2(tmp_path / "tiny", LENGTHS)
    for wrong in (4, 7):
        frames = [picture(0, step) for step in range(wrong)]
        write_video(root / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", frames)
        raw = read(LeRobotSource(root, "tiny"))[0]
        with pytest.raises(EpisodeError, match="frames"):
            list(raw.steps[CAMERA])
        with pytest.raises(BadDataError, match="length_mismatch"):
            ingest(root, tmp_path, lerobot_spec(), name=f"out{wrong}")


def test_an_unfinished_parquet_file_is_named_and_the_others_are_read(tmp_path):
    """A writer that died leaves a file without its footer."""
    root = write_v2(tmp_path / "tiny", LENGTHS)
    path = root / "data/chunk-000/episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    outcomes = read(LeRobotSource(root, "tiny"))
    assert [isinstance(raw, Rejected) for raw in outcomes] == [False, True, False]
    assert outcomes[1].reason == "decode_error" and outcomes[1].source_file.endswith("episode_000001.parquet")


def test_rows_of_another_length_than_meta_says_are_found(tmp_path):
    root = write_v2(tmp_path / "tiny", LENGTHS)
    path = root / "meta/episodes.jsonl"
    path.write_text(path.read_text().replace('"length": 8', '"length": 9'))
    assert read(LeRobotSource(root, "tiny"))[1].reason == "length_mismatch"


def damaged(tmp_path, old, new, file="meta/info.json"):
    root = write_v2(tmp_path / "tiny", LENGTHS)
    (root / file).write_text((root / file).read_text().replace(old, new))
    return root


@pytest.mark.parametrize(
    "old, new, error",
    [
        ("v2.1", "v9.0", BadDataError),
        ("data/chunk-", "../data/chunk-", BadDataError),
        ("{episode_index:06d}.parquet", "{episode_index.__class__}.parquet", BadDataError),
        ("{episode_index:06d}.parquet", "{secret:06d}.parquet", BadDataError),
        (f'"fps": {FPS}', '"fps": -1', BadDataError),
        ("/episode_", "/absent_", MissingInputError),
        ('"chunks_size": 1000', '"chunks_size": 0', BadDataError),
        ('"chunks_size": 1000', '"chunks_size": Infinity', BadDataError),
        ('"codebase_version": "v2.1"', '"codebase_version": ["v2.1"]', BadDataError),
        ('"action": {"dtype": "float32", "shape": [7]}', '"action": 7', BadDataError),
    ],
)
def test_an_info_that_lies_is_refused_by_name(tmp_path, old, new, error):
    with pytest.raises(error):
        LeRobotSource(damaged(tmp_path, old, new), "tiny")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"v2.1"'])
def test_an_info_that_is_no_object_is_refused(tmp_path, text):
    root = write_v2(tmp_path / "tiny", LENGTHS)
    (root / "meta/info.json").write_text(text)
    with pytest.raises(BadDataError, match=r"info\.json is malformed"):
        LeRobotSource(root, "tiny")


def test_rows_before_those_of_the_first_episode_of_a_file_are_refused(tmp_path):
    changes = {1: {"dataset_from_index": -3, "dataset_to_index": LENGTHS[1] - 3}}
    with pytest.raises(BadDataError, match="its file begins at row 0"):
        LeRobotSource(write_v3(tmp_path / "tiny", [LENGTHS], changes), "tiny")


def test_tasks_without_a_column_of_text_are_refused(tmp_path):
    root = write_v3(tmp_path / "tiny", [LENGTHS])
    pq.write_table(pa.table({"task_index": [0, 1]}), root / "meta/tasks.parquet")
    with pytest.raises(BadDataError, match="StopIteration"):
        LeRobotSource(root, "tiny")


def test_images_that_are_only_a_path_are_refused(tmp_path):
    pq.write_table(pa.table({"image": [{"bytes": b"x", "path": "a"}, {"bytes": None, "path": "b"}]}), tmp_path / "a")
    with pytest.raises(BadDataError, match=r"image\.bytes"):
        read_columns(tmp_path / "a")


def test_a_table_that_would_not_fit_into_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    pq.write_table(pa.table({"state": np.arange(100_000.0)}), tmp_path / "a")
    monkeypatch.setattr(columns, "TABLE_BYTES", 100)
    with pytest.raises(BadDataError, match="too large when read"):
        read_columns(tmp_path / "a")


FROM = f"videos/{CAMERA}/from_timestamp"


@pytest.mark.parametrize("seconds", [-1.0, 1.0e12, float("inf"), float("nan")])
def test_a_video_that_starts_where_no_video_is_is_refused(tmp_path, seconds):
    root = write_v3(tmp_path / "tiny", [LENGTHS], {1: {FROM: seconds}})
    with pytest.raises(BadDataError, match="malformed"):
        LeRobotSource(root, "tiny")


def test_a_start_behind_the_last_frame_is_found_at_once(tmp_path):
    root = write_v3(tmp_path / "tiny", [LENGTHS], {1: {FROM: 9_000_000.0}})
    frames = read(LeRobotSource(root, "tiny"))[1].steps[CAMERA]
    with pytest.raises(EpisodeError, match="frames or fewer"):
        list(frames)
    assert frames.video.frame(10**12) is None and frames.video.starts == 1


def test_a_missing_video_of_one_episode_is_named(tmp_path):
    root = write_v2(tmp_path / "tiny", LENGTHS)
    (root / f"videos/chunk-000/{CAMERA}/episode_000001.mp4").unlink()
    with pytest.raises(MissingInputError, match="lack a camera"):
        LeRobotSource(root, "tiny")


def test_a_file_that_is_no_video_is_an_error_of_its_episode(tmp_path):
    root = write_v2(tmp_path / "tiny", LENGTHS)
    (root / f"videos/chunk-000/{CAMERA}/episode_000001.mp4").write_bytes(b"#!/bin/sh\ntouch ran\n" * 50)
    with pytest.raises(BadDataError, match="decode_error"):
        ingest(root, tmp_path, lerobot_spec())


def test_metadata_of_the_same_size_that_are_not_the_described_ones_are_refused(tmp_path):
    root = write_v2(tmp_path / "tiny", LENGTHS)
    (tmp_path / "tiny.json").write_text(json.dumps(describe_source(root, "tiny")))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/tiny").symlink_to(root)
    ingest(tmp_path / "tiny.json", tmp_path, lerobot_spec(), name="right")
    tasks = root / "meta/tasks.jsonl"
    tasks.write_text(tasks.read_text().replace("push", "pull"))
    with pytest.raises(MismatchError, match="not the described one"):
        ingest(tmp_path / "tiny.json", tmp_path, lerobot_spec(), name="wrong")


def test_hash_splits_are_disjoint_cover_everything_and_do_not_move(tmp_path):
    root = write_v2(tmp_path / "tiny", [4] * 12)
    spec = lerobot_spec()
    source = spec.source.model_copy(update={"splits": {"train": "hash(70%)", "val": "hash(30%)"}})
    out, report = ingest(root, tmp_path, spec.model_copy(update={"source": source}))
    assert sum(count["episodes"] for count in report["kept"].values()) == 12
    keys = [row.key for split in ("train", "val") for row in ShardSet.open(out).episodes(split)]
    ordinals = sorted(int(key.rsplit("-", 1)[1]) for key in keys)
    assert ordinals == list(range(12)) and report["kept"]["val"]["episodes"] > 0


@pytest.mark.real_data
def test_the_groot_sample_reads_though_its_metadata_contradict_it(real_data):
    """One camera exists, one does not; five videos where two are claimed; a quality label among the tasks."""
    source = LeRobotSource(real_data / "groot_dreams_lerobot_v20" / "robot_sim.PickNPlace", "robot_sim.PickNPlace")
    assert source.version == "2.0.0" and source.meta.video_keys() == ["observation.images.ego_view"]
    assert json.loads(source.meta.file.read_text())["total_videos"] == 2  # there are five
    episodes = read(source)
    assert [raw.num_steps for raw in episodes] == [416, 470, 470, 412, 328]
    action = np.concatenate([raw.steps["action"] for raw in episodes])
    assert action.shape == (2096, 44) and (np.ptp(action, axis=0) == 0).sum() == 25
    assert {raw.steps["task"][0] for raw in episodes} >= {b"pick the pear from the counter and place it in the plate"}
    frames = episodes[4].steps["observation.images.ego_view"]
    assert sum(decode(frame).shape == (256, 256, 3) for frame in frames) == 328
