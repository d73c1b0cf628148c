"""LeRobot v2.0, v2.1 and v3.0: rows and frames by index, and what a damaged dataset gets."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_fixture import config, ingest
from lerobot_fixture import CAMERA, FPS, TASKS, lerobot_spec, picture, rows, write_v2, write_v3, write_video

from whale.common.errors import BadDataError, MismatchError
from whale.data.ingest.sources import columns
from whale.data.ingest.sources.columns import read_columns
from whale.data.ingest.sources.lerobot import LeRobotSource
from whale.data.ingest.sources.location import describe_source
from whale.data.ingest.tasks import plan_tasks
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected
from whale.data.storage.images import decode
from whale.data.storage.shards import ShardSet
from whale.data.workbench.draft.draft import draft_spec
from whale.data.workbench.draft.sample import take_sample

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
    with pytest.raises(BadDataError, match=r"row 1, episode 1: found \{'dataset_from_index': -3\.0\}"):
        LeRobotSource(write_v3(tmp_path / "tiny", [LENGTHS], changes), "tiny")


def test_tasks_without_a_column_of_text_are_refused(tmp_path):
    root = write_v3(tmp_path / "tiny", [LENGTHS])
    pq.write_table(pa.table({"task_index": [0, 1]}), root / "meta/tasks.parquet")
    with pytest.raises(
        BadDataError, match=r"meta/tasks\.parquet: columns: found \['task_index'\], expected a column of text"
    ):
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


TO = f"videos/{CAMERA}/to_timestamp"
FILE = f"videos/{CAMERA}/file_index"


def planned(root, version="3.0.0", **changes):
    """What ingest says before it reads an episode."""
    return plan_tasks(root, lerobot_spec(version, **changes), config(), root.parent / "work")


@pytest.mark.parametrize("seconds", [-1.0, 1.0e12, float("inf"), float("nan")])
def test_a_video_that_starts_where_no_video_is_is_refused(tmp_path, seconds):
    root = write_v3(tmp_path / "tiny", [LENGTHS], {1: {FROM: seconds}})
    with pytest.raises(BadDataError, match=rf"row 1, episode 1, {CAMERA}, from"):
        planned(root)


def test_a_start_behind_the_last_frame_is_found_at_once(tmp_path):
    far = 9_000_000.0
    root = write_v3(tmp_path / "tiny", [LENGTHS[:2]], {1: {FROM: far, TO: far + LENGTHS[1] / FPS}})
    frames = read(LeRobotSource(root, "tiny"))[1].steps[CAMERA]
    with pytest.raises(EpisodeError, match="frames or fewer"):
        list(frames)
    assert frames.video.frame(10**12) is None and frames.video.starts == 1


# Windows of the fixture: 0 to 0.5 s, 0.5 to 1.3 s, 1.3 to 1.9 s of file 0.
ROUTES = {
    "another episode's frames": ({1: {FROM: 0.0, TO: 0.8}}, "episodes 0 and 1, .*both show frames 0 to 4 of"),
    "two frames too early": ({2: {FROM: 1.1, TO: 1.7}}, "episodes 1 and 2, .*both show frames 11 to 12"),
    "a window of another length": ({1: {TO: 1.2}}, "found '7 frames at 10 fps', expected 8 frames"),
    "one frame longer": ({2: {TO: 2.0}}, "found '7 frames at 10 fps', expected 6 frames"),
    "episodes exchanged": (
        {0: {FROM: 2.0, TO: 2.5}},
        r"episode 1, .*frame 5 of \S+, before episode 0 \(frame 20 of",
    ),
    "a start without an end": ({1: {TO: float("nan")}}, "episode 1, .*from 0.5 s to nan s"),
}


@pytest.mark.parametrize("case", ROUTES)
def test_an_episode_that_shows_another_s_video_is_refused_with_episode_camera_and_window(tmp_path, case):
    """lerobot#2550: the frames were there, and of another episode."""
    changes, says = ROUTES[case]
    with pytest.raises(BadDataError, match=says) as caught:
        planned(write_v3(tmp_path / "tiny", [LENGTHS], changes))
    assert CAMERA in str(caught.value) and "meta/episodes" in str(caught.value)


def test_episodes_routed_to_another_file_are_refused_and_all_are_named(tmp_path):
    changes = {number: {FILE: 0, FROM: 0.5 * (number - 3), TO: 0.5 * (number - 2)} for number in (3, 4, 5)}
    with pytest.raises(BadDataError) as caught:
        planned(write_v3(tmp_path / "tiny", [[5, 5, 5], [5, 5, 5]], changes))
    assert all(f"episodes {number} and {number + 3}, {CAMERA}" in str(caught.value) for number in (0, 1, 2))


def test_files_that_changed_places_are_refused(tmp_path):
    changes = {number: {FILE: int(number < 3)} for number in range(6)}
    with pytest.raises(BadDataError, match=r"episode 3, .*before episode 2"):
        planned(write_v3(tmp_path / "tiny", [[5, 5, 5], [5, 5, 5]], changes))


def second_camera(root, **columns):
    """A camera of meta/ that the spec does not read, with these columns."""
    about = json.loads((root / "meta/info.json").read_text())
    about["features"]["observation.images.side"] = {"dtype": "video"}
    (root / "meta/info.json").write_text(json.dumps(about))
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.append_column(f"videos/observation.images.side/{name}", pa.array(values, pa.float64()))
    pq.write_table(table, path)
    return root


NOTHING = [None, None, None]
UNREAD = {
    "no route": {name: NOTHING for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")},
    "half a route": {"chunk_index": [0, 0, 0], "file_index": [0, 0, 0]},
    "windows that overlap": {"chunk_index": [0, 0, 0], "file_index": [0, 0, 0], "from_timestamp": [0.0, 0.0, 0.0],
                             "to_timestamp": [0.5, 0.8, 0.6]},
    "a file that is not there": {"chunk_index": [7, 7, 7], "file_index": [0, 0, 0], "from_timestamp": [0.0, 0.5, 1.3],
                                 "to_timestamp": [0.5, 1.3, 1.9]},
}  # fmt: skip


@pytest.mark.parametrize("case", UNREAD)
def test_a_camera_that_no_spec_reads_blocks_nothing_and_is_told(tmp_path, case):
    """lerobot#2429: null routing of a camera refused the whole dataset."""
    root = second_camera(write_v3(tmp_path / "tiny", [LENGTHS]), **UNREAD[case])
    _, report = ingest(root, tmp_path, lerobot_spec("3.0.0"))
    assert report["dropped"] == {} and "observation.images.side" in LeRobotSource(root, "tiny").left_out
    optional = lerobot_spec("3.0.0").cameras["primary"].model_dump() | {"optional": True}
    cameras = {"primary": optional | {"optional": False}, "side": optional | {"key": "observation.images.side"}}
    _, again = ingest(root, tmp_path, lerobot_spec("3.0.0", cameras=cameras), name="b", cameras=["primary", "side"])
    assert again["dropped"] == {}  # optional: left out, episode by episode
    needed = {"primary": optional | {"key": "observation.images.side"}}
    with pytest.raises(BadDataError, match="reads cannot be read"):
        planned(root, cameras=needed)


def test_everything_that_meta_lacks_is_told_at_once(tmp_path):
    root = write_v3(tmp_path / "tiny", [LENGTHS])
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["data/chunk_index", "dataset_to_index"]), path)
    about = json.loads((root / "meta/info.json").read_text())
    del about["data_path"]
    (root / "meta/info.json").write_text(json.dumps(about | {"fps": "ten"}))
    pq.write_table(pa.table({"task": TASKS}), root / "meta/tasks.parquet")
    with pytest.raises(BadDataError) as caught:
        LeRobotSource(root, "tiny")
    for said in ("data/chunk_index", "dataset_to_index", "fps: found 'ten'", "task_index", "4 problems", "remedy"):
        assert said in str(caught.value), said


def rewritten(root, change, file="data/chunk-000/episode_000001.parquet"):
    """One file of rows, changed."""
    table = pq.read_table(root / file)
    pq.write_table(change(table), root / file)
    return root


def shuffled(table):
    return table.take(np.random.default_rng(0).permutation(len(table)))


def set_column(name, function):
    def change(table):
        values = function(table.column(name).to_numpy().copy())
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return change


def gap(values):
    values[4:] += 3.0 / FPS
    return values.astype(np.float32)


def test_rows_out_of_order_are_sorted_by_their_frame_index(tmp_path):
    """OpenTau#301."""
    right = read(LeRobotSource(write_v2(tmp_path / "a" / "tiny", LENGTHS), "tiny"))
    source = LeRobotSource(rewritten(write_v2(tmp_path / "b" / "tiny", LENGTHS), shuffled), "tiny")
    for ours, theirs in zip(read(source), right, strict=True):
        assert ours.steps.keys() == theirs.steps.keys()
        for name, values in theirs.steps.items():
            if isinstance(values, np.ndarray):
                np.testing.assert_array_equal(ours.steps[name], values)
        assert list(ours.steps["task"]) == list(theirs.steps["task"])


def missing_frame(values):
    values[4:] += 1
    return values


TIMES = {
    "a gap in the time stamps": set_column("timestamp", gap),
    "time that stands still": set_column("timestamp", lambda t: np.minimum(t, 0.3).astype(np.float32)),
    "another rate": set_column("timestamp", lambda t: (t / 3).astype(np.float32)),
    "a rate that is 10 % off": set_column("timestamp", lambda t: (t * 1.1).astype(np.float32)),
    "no time": set_column("timestamp", lambda t: np.full_like(t, np.nan)),
    "a frame that is missing": set_column("frame_index", missing_frame),
    "a frame twice": set_column("frame_index", lambda f: np.minimum(f, 5)),
}


@pytest.mark.parametrize("case", TIMES)
def test_rows_that_are_not_one_period_apart_are_refused(tmp_path, case):
    """lerobot#933."""
    root = rewritten(write_v2(tmp_path / "tiny", LENGTHS), TIMES[case])
    outcomes = read(LeRobotSource(root, "tiny"))
    assert [isinstance(raw, Rejected) for raw in outcomes] == [False, True, False]
    assert outcomes[1].reason == "time_gap" and "episode 1" in outcomes[1].detail
    with pytest.raises(BadDataError, match="time_gap"):
        ingest(root, tmp_path, lerobot_spec())


def test_jitter_below_the_stated_tolerance_is_no_gap(tmp_path):
    jitter = np.random.default_rng(0).uniform(-0.2, 0.2, LENGTHS[1]) / FPS
    root = rewritten(write_v2(tmp_path / "tiny", LENGTHS),
                     set_column("timestamp", lambda t: (t + jitter).astype(np.float32)))  # fmt: skip
    assert all(isinstance(raw, RawEpisode) for raw in read(LeRobotSource(root, "tiny")))


@pytest.mark.parametrize("hertz", [30.0, 3.0])
def test_a_spec_with_another_rate_than_the_dataset_s_is_refused(tmp_path, hertz):
    robot = {"name": "Tiny", "arms": 1, "control_hz": hertz}
    with pytest.raises(MismatchError, match="10 frames a second"):
        planned(write_v2(tmp_path / "tiny", LENGTHS), "2.1.0", robot=robot)


def test_frames_that_are_lost_in_the_middle_of_a_video_are_found_by_its_own_time_stamps(tmp_path):
    """AgiBot-World#149: frame numbers behind the gap would stand beside other rows."""
    root = write_v3(tmp_path / "tiny", [LENGTHS])
    frames = [picture(episode, step) for episode, length in enumerate(LENGTHS) for step in range(length)]
    times = [number + 2 * (number >= 8) for number in range(len(frames))]
    write_video(root / f"videos/{CAMERA}/chunk-000/file-000.mp4", frames, times)
    outcomes = read(LeRobotSource(root, "tiny"))
    assert len(list(outcomes[0].steps[CAMERA])) == LENGTHS[0]
    with pytest.raises(EpisodeError, match=r"frame 8 comes 0\.3 s after the one before, expected 0\.1 s"):
        list(outcomes[1].steps[CAMERA])


def test_a_part_of_a_dataset_without_the_first_episode_of_its_file_is_read(tmp_path):
    root = write_v3(tmp_path / "tiny", [LENGTHS])
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    for number, raw in enumerate(read(LeRobotSource(root, "tiny")), 1):
        np.testing.assert_array_equal(raw.steps["action"], rows(number, LENGTHS[number])["action"])
        frames = list(raw.steps[CAMERA])
        assert np.abs(decode(frames[0]).astype(int) - picture(number, 0)).max() <= 6


def test_a_missing_video_of_one_episode_is_named_and_matters_to_whoever_reads_it(tmp_path):
    root = write_v2(tmp_path / "tiny", LENGTHS)
    (root / f"videos/chunk-000/{CAMERA}/episode_000001.mp4").unlink()
    told = LeRobotSource(root, "tiny").left_out[CAMERA]
    assert "no video of 1 of 3 episodes, e.g. episode 1" in told and "episode_000001.mp4 is not there" in told
    with pytest.raises(BadDataError, match=f"record 1: missing_key: no step feature '{CAMERA}'"):
        ingest(root, tmp_path, lerobot_spec())


def test_a_git_lfs_pointer_is_named_whatever_it_stands_for(tmp_path):
    """Isaac-GR00T#58."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123\n"
    for number, file in enumerate(
        (f"videos/chunk-000/{CAMERA}/episode_000000.mp4", "data/chunk-000/episode_000001.parquet", "meta/info.json",
         "meta/episodes.jsonl")
    ):  # fmt: skip
        root = write_v2(tmp_path / str(number) / "tiny", LENGTHS)
        (root / file).write_bytes(pointer)
        for attempt in (lambda r=root, n=number: ingest(r, tmp_path, lerobot_spec(), name=f"o{n}"),
                        lambda r=root: draft_spec(take_sample(r), "tiny")):  # fmt: skip
            with pytest.raises(BadDataError, match="git lfs pull"):
                attempt()


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
