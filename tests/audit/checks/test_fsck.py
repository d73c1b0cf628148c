"""Bit rot in DVC's cache and in published folders is named, also with size and times kept."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from toy_chain import FINAL

from whale.audit.checks.fsck import cache_folder
from whale.cli import run as whale


@pytest.fixture
def cached(chain) -> Path:
    """The chain with a cache as DVC lays it out: the weights, and the list of their folder."""
    return store((FINAL / "model.safetensors").read_bytes())


def store(payload: bytes) -> Path:
    rows = [{"md5": hashlib.md5(payload).hexdigest(), "relpath": "model.safetensors"}]
    listed = json.dumps(rows).encode()
    for data, suffix in ((payload, ""), (listed, ".dir")):
        name = hashlib.md5(data).hexdigest()
        path = cache_folder() / "files/md5" / name[:2] / f"{name[2:]}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if not suffix:
            kept = path
    return kept


def test_a_whole_project_has_no_finding(cached, capsys):
    assert whale(["fsck"]) == 0
    assert "2 cache objects" in capsys.readouterr().out


def test_a_rotten_object_is_named_with_size_and_times_kept(cached, capsys):
    before, payload = cached.stat(), bytearray(cached.read_bytes())
    payload[7] ^= 1
    cached.write_bytes(payload)
    os.utime(cached, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert whale(["fsck"]) == 1
    assert str(cached) in capsys.readouterr().out


def test_an_object_that_a_folder_needs_and_that_is_gone_is_named(cached, capsys):
    cached.unlink()
    assert whale(["fsck"]) == 2
    out = capsys.readouterr().out
    assert str(cached) in out and "model.safetensors" in out


def test_a_ledger_that_is_gone_is_a_finding(cached, capsys):
    Path("lineage/ledger.jsonl").unlink()
    assert whale(["fsck"]) == 2
    assert "ledger.jsonl" in capsys.readouterr().out


def test_a_rotten_published_file_is_named(cached, capsys):
    weights = FINAL / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert whale(["fsck"]) == 1
    assert str(weights) in capsys.readouterr().out


def test_the_cache_may_lie_elsewhere(chain):
    Path(".dvc").mkdir(exist_ok=True)
    Path(".dvc/config.local").write_text("[cache]\n    dir = ../../elsewhere\n")
    assert cache_folder().resolve() == chain.parent / "elsewhere"
    kept = store(b"weights")
    kept.write_bytes(b"weight!")
    assert whale(["fsck"]) == 1
