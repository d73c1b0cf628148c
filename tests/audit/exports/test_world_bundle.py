"""A world's bundle carries its proof along: `whale lineage verify BUNDLE` finds any change, with no project beside."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import tiny_world
import toy_chain
from toy_chain import ART, arguments, guarded

import whale
from whale.audit.audit import audit
from whale.audit.exports.world_bundle import rounded, world
from whale.audit.exports.world_bundle.world import export_world
from whale.audit.run_graph import RunGraph
from whale.common.errors import ConfigError, MismatchError
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.common.json_files import canonical_json, write_json
from whale.data.storage.shards import ShardSet
from whale.lineage import keys, signing
from whale.models.trunk.folder import save_model
from whale.seal import seal
from whale.worlds.folder import open_folder

DYNAMICS = ART / "models/dynamics/full"
CALIBRATION = ART / "evaluation/uncertainty"


def train(name, item, out, model, seed=0):
    """A tiny untrained network, published as a stage publishes it."""
    shards = ART / "data/pretrain/shards"
    config = {name: {"seed": seed}, "segments": {"window": 4, "phases": 2}}
    with guarded(name, arguments(item=item, shards=shards, out=out), config) as run:
        found = ShardSet.open(shards / "alpha")
        save_model(run.out, model.eval())
        write_json(run.out / "contract.json", {"alpha": found.contract})
        write_json(run.out / "dataset_statistics.json", {"alpha": found.statistics})


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root, before = tmp_path_factory.mktemp("project"), Path.cwd()
    os.chdir(root)
    try:
        toy_chain.write_project()
        toy_chain.ingest("alpha")
        train("train_tokenizer", None, ART / "models/tokenizer", tiny_models.tokenizer())
        train("train_behavior", None, ART / "models/behavior", tiny_models.behavior())
        train("train_dynamics", "full", DYNAMICS, tiny_models.dynamics())
        with guarded("evaluate_uncertainty", arguments(models=DYNAMICS, out=CALIBRATION), {}) as run:
            tiny_world.write_calibration(run.out / "calibration.json", open_folder(DYNAMICS).digests)
        for name, small in (("whole", False), ("small", True)):
            graph = RunGraph.load()
            export_world(graph.find(str(DYNAMICS)), graph, root / name, recorded=True, small=small)
    finally:
        os.chdir(before)
    return root


@pytest.fixture(params=["whole", "small"])
def bundle(project, tmp_path, monkeypatch, request):
    """A copy, in a folder that knows no project."""
    shutil.copytree(project / request.param, tmp_path / "bundle")
    for path in (tmp_path / "bundle").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "bundle"


def verdict(bundle, **options):
    return audit(str(bundle), **({"deep": False, "strict": False, "expect_head": None} | options))


def reseal(bundle):
    (bundle / MANIFEST_NAME).unlink()
    seal(bundle, sha256_of_file)


def texts(report):
    return " ".join(str(each) for each in report.findings)


def test_nothing_has_changed_and_the_report_says_whose_word_that_is(bundle, project, monkeypatch):
    report = verdict(bundle)
    assert report.code == 0 and not report.findings, texts(report)
    assert report.checked["runs"] == 5 and any("nobody here trusts" in each for each in report.checked)
    assert (bundle / "licences.json").is_file() and "owes" in (bundle / "OBLIGATIONS.md").read_text()
    is_small = (bundle / "tokenizer/published.json").exists()
    assert any("rounded to float16" in each for each in report.checked) == is_small
    monkeypatch.chdir(project)
    assert verdict(bundle).checked["known key"] == 1


@pytest.mark.slow
def test_every_file_is_signed_for_and_a_change_of_any_is_found(bundle):
    names = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    for name in names:
        payload = (bundle / name).read_bytes()
        changed = bytearray(payload)
        changed[len(changed) // 2] ^= 1
        (bundle / name).write_bytes(changed)
        assert verdict(bundle).code != 0, name
        if name != MANIFEST_NAME:  # and whoever makes the manifest again still lacks a signature
            reseal(bundle)
            assert verdict(bundle).code != 0, name
        (bundle / name).write_bytes(payload)
        reseal(bundle)
    assert verdict(bundle).code == 0


def test_a_file_too_many_or_too_few_is_found_also_behind_a_new_manifest(bundle):
    (bundle / "more.bin").write_bytes(b"x")
    reseal(bundle)
    assert "more.bin" in texts(verdict(bundle))
    (bundle / "more.bin").unlink()
    (bundle / "env.py").unlink()
    reseal(bundle)
    assert "env.py" in texts(verdict(bundle))


def test_weights_that_no_run_made_are_found_though_a_stranger_signs_for_them(bundle, tmp_path):
    """The stranger has a key, and signs the bundle as a whole; the runs' statements name other weights."""
    with np.load(bundle / "starts/alpha.npz") as found:
        assert "following" in found.files
    payload = bytearray((bundle / "dynamics/model.safetensors").read_bytes())
    payload[-1] ^= 1
    (bundle / "dynamics/model.safetensors").write_bytes(payload)
    is_small = (bundle / "dynamics/published.json").exists()
    if is_small:  # rounded weights are the exporter's word; those they came from are not
        about = json.loads((bundle / "world.json").read_bytes())
        about["rounded"]["of"]["dynamics"] = "0" * 64
        write_json(bundle / "world.json", about)
    signed_by_a_stranger(bundle, tmp_path)
    report = verdict(bundle)
    assert "no run of the bundle's statements made these weights" in texts(report) and report.code == 4


def signed_by_a_stranger(bundle, tmp_path):
    envelope = json.loads((bundle / "export.intoto.json").read_bytes())
    statement = signing.payload_of(envelope)
    for subject in statement["subject"]:
        subject["digest"]["sha256"] = sha256_of_file(bundle / subject["name"])
    key = keys.make_key(tmp_path / "stranger.pem")
    keyid, pem = signing.public_half(key)
    (bundle / "public" / f"{keyid}.pub").write_bytes(pem)
    statement["subject"].append({"name": f"public/{keyid}.pub", "digest": {"sha256": sha256_of_file(
        bundle / "public" / f"{keyid}.pub")}})  # fmt: skip
    envelope = signing.sign(statement, key)
    (bundle / "export.intoto.json").write_text(canonical_json(envelope))
    reseal(bundle)


def test_with_the_makers_key_a_bundle_that_somebody_else_signed_is_refused(bundle, tmp_path):
    (own,) = (path.stem for path in (bundle / "public").glob("*.pub"))
    assert verdict(bundle, expect_key=own).code == 0
    signed_by_a_stranger(bundle, tmp_path)
    assert verdict(bundle).code == 0 and verdict(bundle, expect_key=own).code == 3
    with pytest.raises(ConfigError, match="expect-key"):
        verdict(bundle, expect_head="0" * 64)


@pytest.mark.parametrize("line", [b"{}", b"[]", b"nothing", b'{"payload": 5}', b"[" * 5000])
def test_statements_that_are_none_are_named(bundle, line):
    whole = (bundle / "statements.intoto.jsonl").read_bytes()
    (bundle / "statements.intoto.jsonl").write_bytes(whole + line + b"\n")
    reseal(bundle)
    report = verdict(bundle)
    assert report.code in (1, 3) and "statements.intoto" in texts(report)


def test_a_statement_that_is_missing_breaks_the_chain(bundle, tmp_path):
    lines = (bundle / "statements.intoto.jsonl").read_bytes().splitlines(keepends=True)
    first = signing.payload_of(json.loads(lines[0]))["predicate"]["buildDefinition"]["externalParameters"]
    assert first["stage"] == "ingest"
    (bundle / "statements.intoto.jsonl").write_bytes(b"".join(lines[1:]))
    signed_by_a_stranger(bundle, tmp_path)
    report = verdict(bundle)
    assert report.code == 4 and "an input that no run of the ledger made" in texts(report)


def test_a_small_world_imagines_what_the_whole_one_does_and_keeps_its_calibration(project):
    whole, small = (whale.load(project / name) for name in ("whole", "small"))
    assert small.identity != whole.identity and small.measured == whole.digests
    assert small.trust_limit() == whole.trust_limit() and whole.identity in small.trust_limit().source
    start = whole.starts[0]
    pictures = [each.imagine(start.frames, start.actions).frames.astype(int) for each in (whole, small)]
    assert np.abs(pictures[0] - pictures[1]).mean() <= rounded.TOLERANCE
    statement = signing.payload_of(json.loads((project / "small/export.intoto.json").read_bytes()))
    said = statement["predicate"]["rounded"]
    assert said["weights"] == "float16" and 0 <= float(said["mean_abs_difference"]) <= float(said["tolerance"])
    size = sum(path.stat().st_size for path in (project / "small").rglob("*") if path.is_file())
    weights = (project / "whole/dynamics/model.safetensors").stat().st_size
    assert size < world.MOST_BYTES
    assert (project / "small/dynamics/model.safetensors").stat().st_size < 0.6 * weights


def test_what_is_too_large_or_imagines_something_else_is_refused_and_leaves_nothing(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    graph = RunGraph.load()
    monkeypatch.setattr(rounded, "TOLERANCE", -1.0)
    with pytest.raises(MismatchError, match="other frames"):
        export_world(graph.find(str(DYNAMICS)), graph, tmp_path / "out", small=True)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(rounded, "TOLERANCE", 255.0)
    monkeypatch.setattr(world, "MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"(?s)larger.*model\.safetensors.*1,000 bytes"):
        export_world(graph.find(str(DYNAMICS)), graph, tmp_path / "out", small=True)
    assert not (tmp_path / "out").exists()
