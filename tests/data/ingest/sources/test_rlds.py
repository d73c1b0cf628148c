import json

import numpy as np
import pytest
from rlds_fixture import episode, episodes, write_rlds

from whale.common.errors import BadDataError, MissingInputError
from whale.data.ingest.sources.rlds import RldsSource
from whale.data.ingest.sources.source import require_files
from whale.data.ingest.sources.tfrecord import TFRecordFile
from whale.data.spec.episode import RawEpisode, Rejected


def write(tmp_path, lengths=(3, 4, 5)):
    return write_rlds(tmp_path, {"train": [episodes(list(lengths))]})


def read(directory, keys=None):
    return list(RldsSource(directory).read_shard("train", 0, keys))


def train_file(directory):
    return directory / "tiny-train.tfrecord-00000-of-00001"


def test_steps_come_back_as_they_were_written(tmp_path):
    raw = read(write(tmp_path))[1]
    expected = episodes([3, 4, 5])[1]
    np.testing.assert_array_equal(raw.steps["action"].ravel(), expected["steps/action"])
    assert raw.steps["observation/image"] == expected["steps/observation/image"]
    assert raw.steps["is_first"].tolist() == [True, False, False, False]
    assert raw.metadata["episode_metadata/policy"] == b"expert"
    assert raw.num_steps == 4


def test_positions_lead_back_to_the_upstream_bytes(tmp_path):
    directory = write(tmp_path)
    with TFRecordFile(train_file(directory)) as records:
        offsets = [record.offset for record in records]
    assert [raw.byte_offset for raw in read(directory)] == offsets


def test_only_the_asked_step_features_are_decoded(tmp_path):
    assert set(read(write(tmp_path), {"action"})[0].steps) == {"action"}


def test_a_cut_at_a_record_boundary_is_found_by_the_promised_count(tmp_path):
    directory = write(tmp_path)
    with TFRecordFile(train_file(directory)) as records:
        second = [record.offset for record in records][1]
    data = train_file(directory).read_bytes()
    train_file(directory).write_bytes(data[:second])
    outcomes = read(directory)
    assert [type(outcome) for outcome in outcomes] == [RawEpisode, Rejected, Rejected]
    assert {outcome.reason for outcome in outcomes[1:]} == {"truncated"}


def test_a_flipped_byte_costs_one_record_only(tmp_path):
    directory = write(tmp_path)
    data = bytearray(train_file(directory).read_bytes())
    data[100] ^= 1
    train_file(directory).write_bytes(bytes(data))
    assert [getattr(outcome, "reason", "ok") for outcome in read(directory)] == ["bad_crc", "ok", "ok"]


def test_an_empty_file_rejects_every_promised_record(tmp_path):
    directory = write(tmp_path)
    train_file(directory).write_bytes(b"")
    assert len(read(directory)) == 3
    assert all(isinstance(outcome, Rejected) for outcome in read(directory))


def test_more_records_than_promised_are_an_error(tmp_path):
    directory = write(tmp_path)
    info = json.loads((directory / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["2"]
    (directory / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(BadDataError, match="more records"):
        read(directory)


def test_wrong_num_bytes_alone_is_a_warning(tmp_path, caplog):
    directory = write(tmp_path)
    info = json.loads((directory / "dataset_info.json").read_text())
    info["splits"][0]["numBytes"] = "1"
    (directory / "dataset_info.json").write_text(json.dumps(info))
    assert len(read(directory)) == 3
    assert "bytes on disk" in caplog.text


def test_features_of_different_length_reject_the_episode_with_both_lengths(tmp_path):
    broken = episode(np.random.default_rng(0), 4)
    broken["steps/reward"] = broken["steps/reward"][:3]
    outcome = read(write_rlds(tmp_path, {"train": [[broken]]}))[0]
    assert outcome.reason == "length_mismatch"
    assert "3" in outcome.detail and "4" in outcome.detail


@pytest.mark.parametrize("template", ["../{DATASET}", "/etc/{SPLIT}", "pipe:cat {DATASET}"])
def test_file_names_can_not_leave_the_folder(tmp_path, template):
    directory = write(tmp_path)
    info = json.loads((directory / "dataset_info.json").read_text())
    info["splits"][0]["filepathTemplate"] = template
    (directory / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(BadDataError, match="unsafe"):
        RldsSource(directory)


def test_another_file_format_is_refused_by_name(tmp_path):
    directory = write(tmp_path)
    info = json.loads((directory / "dataset_info.json").read_text()) | {"fileFormat": "riegeli"}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(BadDataError, match="riegeli"):
        RldsSource(directory)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(MissingInputError, match=r"dataset_info\.json"):
        RldsSource(tmp_path)
    directory = write(tmp_path)
    train_file(directory).unlink()
    source = RldsSource(directory)
    with pytest.raises(MissingInputError, match="tiny-train"):
        require_files(source, source.splits["train"])
    others = [unit for split, units in source.splits.items() if split != "train" for unit in units]
    require_files(source, others)  # nobody who does not read the split is stopped


@pytest.mark.real_data
def test_the_bridge_sample_reads_as_tfds_reads_it(real_data, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    tfds = pytest.importorskip("tensorflow_datasets")
    directory = real_data / "octo_bridge_rlds" / "bridge_dataset" / "1.0.0"
    image_keys = [f"image_{i}" for i in range(4)]
    skip = {"steps": {"observation": {key: tfds.decode.SkipDecoding() for key in image_keys}}}
    features = tfds.builder_from_directory(str(directory)).info.features
    source = RldsSource(directory)
    with TFRecordFile(directory / source.splits["train"][0].file) as records:
        for raw, record in zip(source.read_shard("train", 0), records, strict=True):
            theirs = features.deserialize_example_np(record.payload, decoders=skip)
            steps = list(theirs["steps"])
            assert len(steps) == raw.num_steps == 10
            for name, ours in raw.steps.items():
                for step, mine in zip(steps, ours, strict=True):
                    value = step
                    for part in name.split("/"):
                        value = value[part]
                    np.testing.assert_array_equal(mine, value, err_msg=name)
            for name, value in theirs["episode_metadata"].items():
                assert raw.metadata[f"episode_metadata/{name}"] == value
