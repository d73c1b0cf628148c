import json

import pytest
from shard_faults import FAULTS, first_tar, flip
from tiny_shards import write_tiny_shards

from whale.cli import run
from whale.common.errors import MissingInputError
from whale.data.storage.shards import ShardSet
from whale.data.workbench.shard_check import check_shards


@pytest.fixture
def shards(tmp_path):
    return write_tiny_shards(tmp_path / "tiny", "tiny", [5, 7, 6, 4, 9], per_shard=3)


def test_whole_shards_have_no_finding_and_everything_was_read(shards):
    report = check_shards(shards, decode_frames=True)
    assert (report.findings, report.shards, report.episodes, report.frames) == ([], 2, 5, 31)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_fault_is_found(shards, fault):
    fault(shards)
    try:
        report = check_shards(shards)
    except MissingInputError:
        return
    assert report.findings


@pytest.mark.parametrize("where", ["header", "payload", "padding", "end"])
def test_one_flipped_bit_anywhere_in_a_tar_is_found_with_its_place(shards, where):
    member = ShardSet.open(shards).episodes("train")[0].frame_members("primary", 1, 2)[0]
    size = first_tar(shards).stat().st_size
    position = {"header": member.offset - 300, "payload": member.offset, "padding": member.offset + member.size}
    flip(first_tar(shards), {**position, "end": size - 5}[where])
    first, *_ = check_shards(shards).findings
    assert "tiny-train-00000-000.tar" in str(first)
    assert where == "end" or member.name in first.place


def test_unlisted_files_and_leftovers_are_named(shards):
    for name in ("train/tiny-train-00009-000.tar", "train/.x.tar.tmp-0123"):
        (shards / name).write_bytes(b"")
    assert [(f.file, f.what) for f in check_shards(shards).findings] == [
        ("train/.x.tar.tmp-0123", "a killed writer's leftover"),
        ("train/tiny-train-00009-000.tar", "a file that the manifest does not list"),
    ]


def test_the_verb_ends_with_0_1_or_2_and_names_what_it_found(shards, capsys):
    assert run(["shards", "verify", str(shards.parent), "--decode"]) == 0
    assert "31" in capsys.readouterr().out
    flip(first_tar(shards), 5000)
    assert run(["shards", "verify", str(shards), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"] and found["datasets"][0]["findings"]
    assert run(["shards", "verify", str(shards / "train")]) == 2
