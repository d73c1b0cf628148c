"""S3, S5, S9, B2: names, links, classes and files that lead elsewhere or are not what they say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from whale.common.errors import BadDataError, RefusedError, WhaleError
from whale.data.ingest.sources.features import parse_features
from whale.data.ingest.sources.opening import open_source
from whale.data.storage.files import inside
from whale.data.storage.shards import ShardSet

NAMES = ["pipe:touch ran", "file:///etc/passwd", "http://h/x.tar", "s3://b/x.tar", "x;touch ran", "$(touch ran).tar",
         "a\nb.tar", "../x.tar", "a/../../x.tar", "/etc/passwd", "a\0b", "\ud800", "", "x" * 5000]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_from_a_file_stays_in_its_folder(tmp_path, name):
    with pytest.raises(BadDataError, match=r"unsafe file name|outside"):
        inside(tmp_path, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_shard_is_named_like_a_shard(tmp_path, name):
    from tiny_shards import write_tiny_shards

    write_tiny_shards(tmp_path, "tiny", [3])
    about = json.loads((tmp_path / "manifest.json").read_text())
    about["shards"][0]["file"] = name
    (tmp_path / "manifest.json").write_text(json.dumps(about))
    with pytest.raises(WhaleError, match=r"manifest\.json"):
        ShardSet.open(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["antigravity", "os.system", "planted.Evil", "tensorflow_datasets.core.features.Evil"])
def test_a_class_named_in_metadata_is_never_imported(tmp_path, monkeypatch, name):
    (tmp_path / "planted.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for key in ("pythonClassName", "type"):
        with pytest.raises(BadDataError, match="unknown feature class"):
            parse_features({key: name})
    assert not {"antigravity", "planted"} & sys.modules.keys() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["a link above", "a link in its place", "a way out"])
def test_an_output_outside_the_project_is_refused_before_work_begins(tmp_path, kind):
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    out = {"a link above": "artifacts/demo/mix", "a link in its place": "mix", "a way out": "../elsewhere/mix"}[kind]
    if kind != "a way out":
        (project / out.partition("/")[0]).symlink_to(elsewhere)
    from whale.guard.publish import require_contained

    before = os.getcwd()
    os.chdir(project)
    try:
        with pytest.raises(RefusedError, match=r"(?s)outside the project.*expected.*remedy"):
            require_contained(Path(out))
        require_contained(Path("artifacts2/demo/mix"))
    finally:
        os.chdir(before)
    assert not list(elsewhere.iterdir())


def test_a_stage_whose_output_lies_behind_a_link_ends_with_3_and_touches_nothing(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project/artifacts").symlink_to(tmp_path / "elsewhere")
    root = Path(__file__).parents[2]
    (tmp_path / "project/params.yaml").write_bytes((root / "params.yaml").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "whale.run", "mix", "--shards", "x", "--out", "artifacts/mix"], cwd=tmp_path / "project",
        env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 3 and "an output outside the project" in done.stderr, done.stderr
    assert not list((tmp_path / "elsewhere").iterdir())


SPLITS = [None, 1, "train", [1], [{}], [{"name": None}], [{"name": "train", "shardLengths": ["x"]}],
          [{"name": "train", "shardLengths": [10**30]}], [{"name": "\ud800", "shardLengths": ["1"]}]]  # fmt: skip


@pytest.mark.parametrize("splits", SPLITS, ids=str)
def test_splits_that_are_none_are_told(tmp_path, splits):
    (tmp_path / "dataset_info.json").write_text(json.dumps({"name": "x", "version": "1.0.0", "splits": splits}))
    (tmp_path / "features.json").write_text("{}")
    with pytest.raises(WhaleError, match=r"file: "):
        source = open_source("rlds", tmp_path, "x", "1.0.0")
        assert source.features


def test_a_video_without_codec_or_with_tags_that_are_no_text_is_no_traceback(tmp_path):
    import lerobot_fixture

    from whale.data.ingest.sources.video import decode_video
    from whale.data.spec.episode import EpisodeError

    lerobot_fixture.write_v2(tmp_path, [4])
    (path,) = tmp_path.rglob("*.mp4")
    data = path.read_bytes()
    for old, new in (
        (b"avc1", b"zzzz"),
        (b"mp4v", b"zzzz"),
        (b"hev1", b"zzzz"),
        (b"av01", b"zzzz"),
        (b"Lavf", b"\xff\xfe\x80\x81"),
    ):
        if old in data:
            path.write_bytes(data.replace(old, new))
            try:
                assert list(decode_video(path))
            except EpisodeError as error:
                assert path.name in str(error)


def test_columns_whose_names_are_no_text_are_told(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from whale.data.ingest.sources.columns import column_names, read_columns

    pq.write_table(pa.table({"abcd": [1.0]}), tmp_path / "a.parquet", store_schema=False)
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data.replace(b"abcd", b"\xff\xfe\x80d"))
    for read in (column_names, read_columns):
        with pytest.raises(BadDataError, match=r"a\.parquet"):
            read(tmp_path / "a.parquet")


def test_doctor_names_what_is_unsafe(tmp_path, monkeypatch):
    from whale.commands.project.security_checks import security_checks

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: demo\nlogin: https://me:hunter2@host/x\n")
    Path("dvc.yaml").write_text("stages: {x: {cmd: 'run ${profile}', deps: [], outs: ['artifacts/${profile}/x']}}\n")
    assert {state for _, state, _ in security_checks()} > {"ok"}
    Path("artifacts").symlink_to(tmp_path.parent)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    wrong = {name: found for name, state, found in security_checks() if state != "ok"}
    assert set(wrong) == {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION is off", "no value in a command",
                          "no link on the way to an output", "no secret in params.yaml"}  # fmt: skip
    assert "hunter2" not in str(wrong)
