"""Whatever is tampered with is caught with its exit code and named; what is untouched raises no alarm.

A dirty tree and an amended commit need stage processes: tests/guard/test_run_record.py. Exports: test_exports.py.
"""

import base64
import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import toy_chain
import yaml
from tampering import closed_set, rewrite, signed_by
from toy_chain import ART, FINAL, METRICS

from whale.audit.audit import audit
from whale.audit.run_graph import RunGraph
from whale.cli import run as whale
from whale.common.files import sha256_of_file
from whale.common.json_files import canonical_json
from whale.lineage import keys, ledger, signing
from whale.lineage.trust import require_signer

SHARD = ART / "data/pretrain/shards/beta/train/beta-train-00001-000.tar"
EPISODES = ART / "data/pretrain/shards/alpha/episodes.parquet"
# `make fuzz` asks for 1,000 and 100.
CHANGES, UNTOUCHED = int(os.environ.get("WHALE_FUZZ_CHANGES", 100)), int(os.environ.get("WHALE_FUZZ_UNTOUCHED", 8))


def verdict(artefact=FINAL, **options):
    options = {"deep": False, "strict": False, "expect_head": None} | options
    return audit(str(artefact), **options)


def record_of_the_final_run(name: str) -> Path:
    """The chain has runs beside the checkpoint's line too (an evaluation): theirs are not what FINAL stands on."""
    run = RunGraph.load().find(str(FINAL)).run
    return next(Path(path) for path, _ in run.byproducts.values() if path.endswith(name))


def files_named(report) -> str:
    return " ".join(str(finding) for finding in report.findings)


def flip(path: Path, position: int = -1, keep_times: bool = False) -> None:
    """One bit of one byte, in place."""
    before, payload = path.stat(), bytearray(path.read_bytes())
    payload[position] ^= 1
    path.write_bytes(payload)
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def resign(change, line: int = -1, key: Path | None = None) -> None:
    """Change one statement, then sign that line and those after it for their new places, as who has the key could."""
    entries, made = ledger.read(), []
    line = line % len(entries)
    for number, entry in enumerate(entries):
        statement = json.loads(canonical_json(entry.statement))
        if number == line:
            change(statement)
        own = key if number == line and key else require_signer()
        made.append(signed_by(own, statement) if number >= line else entry.envelope)
    rewrite(made)


def last_of(stage: str) -> int:
    """Line (from 0) of the newest run of a stage."""
    return [run.entry.line for run in RunGraph.load().runs if run.name == stage][-1] - 1


def other_key(tmp_path: Path) -> Path:
    return keys.make_key(tmp_path / "stranger.pem")


def test_nothing_touched_is_no_alarm_after_a_copy_with_other_times_and_links(chain):
    for artefact in (FINAL, METRICS, ART / "mix", ART / "evaluation/video", "train_tokenizer"):
        assert verdict(artefact).findings == []
    for path in chain.rglob("*.*"):
        os.utime(path)
    assert verdict(deep=True).findings == []
    shutil.copytree(FINAL, chain.parent / "elsewhere")
    assert verdict(chain.parent / "elsewhere").code == 0


FLIPPED = {
    "tensor data": (FINAL / "model.safetensors", -1),
    "safetensors header": (ART / "models/tokenizer/model.safetensors", 12),
    "shard payload": (SHARD, 700),
    "shard header": (SHARD, 100),
    "episode table": (EPISODES, 200),
    "params": (Path("params.yaml"), 5),
    "lock file": (Path("constraints.txt"), 3),
    "spec": (Path("data_specs/beta.yaml"), 2),
    "manifest": (ART / "data/pretrain/shards/alpha/manifest.json", 30),
    "record": (None, 10),
}


@pytest.mark.parametrize("place", FLIPPED)
@pytest.mark.parametrize("keep_times", [False, True], ids=["new times", "old times"])
def test_t1_t2_one_flipped_bit_is_named_also_with_size_and_times_kept(chain, place, keep_times):
    path, position = FLIPPED[place]
    path = path or record_of_the_final_run("environment.json")
    if keep_times:
        assert verdict().code == 0  # the cache knows every file now
    flip(path, position, keep_times)
    report = verdict()
    assert report.code == 1 and str(path) in files_named(report)


def test_t3_a_shard_cut_at_a_member_boundary(chain):
    SHARD.write_bytes(SHARD.read_bytes()[:1024])
    assert verdict().code == 1 and SHARD.name in files_named(verdict())


def test_t4_deleted_added_renamed_swapped_linked(chain):
    payload, other = SHARD.read_bytes(), ART / "data/pretrain/shards/beta/train/beta-train-00002-000.tar"
    SHARD.unlink()
    assert verdict().code == 2 and SHARD.name in files_named(verdict())
    SHARD.with_name("renamed.tar").write_bytes(payload)
    assert verdict().code == 1
    SHARD.with_name("renamed.tar").unlink()
    SHARD.write_bytes(other.read_bytes())
    other.write_bytes(payload)
    assert verdict().code == 1 and SHARD.name in files_named(verdict())
    other.write_bytes(SHARD.read_bytes())
    SHARD.write_bytes(payload)
    assert verdict().code == 0
    (FINAL / "extra").symlink_to("/etc/hostname")
    assert verdict().code == 1 and "extra" in files_named(verdict())


def test_t5_output_manifest_and_dvc_lock_edited_consistently(chain):
    """What `dvc commit -f` makes of a hand edit: DVC is content, the ledger is not."""
    flip(FINAL / "model.safetensors")
    manifest = FINAL / "MANIFEST.json"
    listed = json.loads(manifest.read_text())
    listed["files"]["model.safetensors"]["sha256"] = sha256_of_file(FINAL / "model.safetensors")
    manifest.write_text(json.dumps(listed, sort_keys=True, indent=1) + "\n")
    toy_chain.write_lock()
    report = verdict()
    assert report.code == 1 and "MANIFEST.json" in files_named(report)


def test_t5_an_entry_of_dvc_lock_edited_alone(chain):
    text = Path("dvc.lock").read_text()
    edits = [("training_steps: 40", "training_steps: 41"), ("md5: ", "md5: 0"), ("cmd: python", "cmd: pythom")]
    for old, new in [*edits, ("params.yaml:", "params.ya3l:")]:
        Path("dvc.lock").write_text(text.replace(old, new, 1))
        assert verdict().code == 1 and "dvc.lock" in files_named(verdict())


@pytest.mark.parametrize("tamper", ["edited", "last deleted", "reordered", "duplicated"])
def test_t6_a_ledger_whose_lines_were_touched(chain, tamper):
    lines = ledger.LEDGER.read_bytes().split(b"\n")[:-1]
    if tamper == "edited":
        lines[3] = lines[3].replace(b'"seq":4', b'"seq":5')
    elif tamper == "last deleted":
        lines.pop()
    elif tamper == "reordered":
        lines[2], lines[3] = lines[3], lines[2]
    else:
        lines.insert(4, lines[3])
    ledger.LEDGER.write_bytes(b"".join(line + b"\n" for line in lines))
    report = verdict()
    assert report.code == 1 and "lineage/" in files_named(report)


def test_t6_last_lines_and_head_cut_off_together_are_remembered_by_git(chain):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "lineage"], ["commit", "-qm", "records"]):
        subprocess.run([*git, *arguments], check=True)
    entries = ledger.read()
    ledger.LEDGER.write_bytes(b"\n".join(ledger.LEDGER.read_bytes().split(b"\n")[:-2]) + b"\n")
    ledger.HEAD.write_text(entries[-2].id + "\n")
    report = verdict()
    assert report.code == 1 and "git" in files_named(report)


def test_t6_a_head_kept_elsewhere_pins_the_ledger(chain):
    head = ledger.HEAD.read_text().strip()
    assert verdict(expect_head=head).code == 0
    assert verdict(expect_head="0" * 64).code == 1


def test_t6_a_line_from_another_ledger(chain, tmp_path):
    envelope = signing.sign(ledger.read()[0].statement, other_key(tmp_path))
    ledger.append(lambda place: envelope)
    report = verdict()
    assert report.code == 3 and "ledger.jsonl" in files_named(report)


def test_t7_signed_again_with_another_key(chain, tmp_path):
    resign(lambda statement: None, key=other_key(tmp_path))
    assert verdict().code == 3


def test_t7_a_public_key_that_is_not_what_its_name_says(chain):
    (key,) = signing.PUBLIC_KEYS.glob("*.pub")
    flip(key, 60)
    report = verdict()
    assert report.code in (1, 3) and key.name in files_named(report) + str(report.findings)


def test_t8_a_valid_signature_over_another_subject(chain):
    def change(statement):
        for subject in statement["subject"]:
            if subject["name"].endswith("MANIFEST.json"):
                subject["digest"]["sha256"] = "ab" * 32

    resign(change, last_of("finetune_dynamics@full"))
    report = verdict()
    assert report.code == 1 and "MANIFEST.json" in files_named(report)


def test_t10_an_undeclared_file_makes_the_run_incomplete(chain):
    resign(lambda statement: _internal(statement).update(undeclared=1), last_of("mix"))
    report = verdict()
    assert report.code == 4 and "opened.json" in files_named(report)


def test_t11_a_mixture_weight_edited_after_training(chain):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("weight: 2.5", "weight: 3.5"))
    report = verdict()
    assert report.code == 1 and "mix" in files_named(report) and "params.yaml" in files_named(report)
    (finding,) = report.findings  # once, with all runs that had the old value: settings moved on, no byte has changed
    assert (finding.kind, finding.found, finding.expected) == ("edited", "3.5", "2.5")
    assert finding.what == "mix.weights.beta.weight has another value" and "mix" in finding.where.split(", ")


def test_t11_a_dataset_that_is_added_is_told_from_bytes_that_changed(chain, capsys):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  weights:\n", "  weights:\n    delta: {weight: 1.0, source: ours}\n"))
    assert whale(["lineage", "verify", str(FINAL)]) == 1
    said = capsys.readouterr().out
    assert "EDITED  " in said and "mix.weights.delta was added" in said and "expected: (absent)" in said
    assert (
        "no byte has changed unsigned; 1 edit of settings since, exit code 1" in said
        and "remedy:   take the edit to" in said
    )
    flip(SHARD)
    assert whale(["lineage", "verify", str(FINAL)]) == 1
    assert "2 findings, exit code 1" in capsys.readouterr().out


def test_t11_a_removed_weight_and_a_comment_are_reported_as_other_bytes(chain):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(f"# a word\n{text}")
    (finding,) = verdict().findings
    assert finding.what.startswith("no run of the ledger has seen these bytes; all values that this was made with are")
    assert "dvc repro" not in finding.remedy
    values = yaml.safe_load(text)
    del values["mix"]["weights"]["beta"]
    values["mix"]["weights"]["alpha"]["weight"] = 9.0
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    said = [(finding.what, finding.found) for finding in verdict().findings if finding.kind == "edited"]
    assert ("mix.weights.alpha.weight has another value", "9.0") in said
    assert ("mix.weights.beta was removed", "(absent)") in said


def test_an_output_that_a_later_run_made_anew_is_told_from_a_tampered_one(chain, capsys):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("weight: 2.5", "weight: 3.5"))
    toy_chain.mix()
    toy_chain.write_lock()
    report = verdict()
    remade = [finding for finding in report.findings if finding.kind == "remade"]
    assert report.code == 1 and {finding.kind for finding in report.findings} == {"remade", "edited"}
    assert [(each.where, each.file) for each in remade] == [("mix", str(ART / "mix/MANIFEST.json"))]
    assert RunGraph.load().runs[-1].run_id in remade[0].what and "dvc repro" in remade[0].remedy
    assert whale(["lineage", "verify", str(FINAL)]) == 1
    assert "no byte has changed unsigned; 1 output made anew since; 1 edit of settings" in capsys.readouterr().out
    flip(ART / "mix/plan.json")
    assert "mismatch" in {finding.kind for finding in verdict().findings if "plan.json" in str(finding.file)}


def test_t12_upstream_published_again_under_the_same_version(chain):
    shutil.rmtree("raw/beta")
    toy_chain.write_rlds(Path("raw"), {"train": [toy_chain.episodes([8], 99)]}, name="beta")
    report = verdict()
    assert report.code == 1 and "raw/beta" in files_named(report)


@pytest.fixture(scope="session")
def mlflow_store(built_chain, tmp_path_factory) -> Path:
    """What `whale track sync` makes of the toy chain's spools."""
    from whale.tracking.mlflow_store import replay

    root = tmp_path_factory.mktemp("mlflow")
    replay(built_chain / "work/mlflow_spool", f"sqlite:///{root / 'mlflow.db'}", root / "mlruns", root)
    return root / "mlflow.db"


EDITS = {  # as `mlflow` or sqlite3 would, both without a trace
    "tag of the weights": "UPDATE tags SET value = 'f0' || substr(value, 3) WHERE key LIKE '%models/dynamics/full'",
    "derivation": "UPDATE tags SET value = '0' WHERE key = 'whale.derivation'",
    "derivation removed": "DELETE FROM tags WHERE key = 'whale.derivation'",
    "param": "UPDATE params SET value = '41' WHERE key LIKE '%training_steps'",
}


@pytest.mark.parametrize("edit", EDITS)
def test_t13_a_tag_or_param_of_mlflow_edited_afterwards(chain, mlflow_store, edit):
    shutil.copy(mlflow_store, "mlflow.db")
    assert verdict().findings == []
    with closing(sqlite3.connect("mlflow.db")) as store:
        assert store.execute(EDITS[edit]).rowcount
        store.commit()
    report = verdict()
    assert report.code == 1 and "mlflow.db" in files_named(report) and "was edited" in files_named(report)


@pytest.mark.parametrize(
    ("started", "finished"),
    [("2030-01-02T00:00:00+00:00", "2030-01-01T00:00:00+00:00"), ("2001-01-01T00:00:00+00:00", None)],
)
def test_t14_impossible_times(chain, started, finished):
    def change(statement):
        times = statement["predicate"]["runDetails"]["metadata"]
        times["startedOn"], times["finishedOn"] = started, finished or times["finishedOn"]

    resign(change, last_of("train_dynamics@full"))
    report = verdict()
    assert report.code == 1 and "train_dynamics@full" in files_named(report)


@pytest.mark.parametrize("gone", ["raw/alpha", "artifacts/demo/data/pretrain/shards/alpha", "artifacts/demo/mix"])
def test_t15_upstream_collected_is_missing_not_fine(chain, gone):
    shutil.rmtree(gone)
    report = verdict()
    assert report.code == 2 and gone in files_named(report)


def test_t17_bytes_that_collide_in_md5_differ_here(chain):
    """The published pair of 128 bytes with one md5: DVC takes one for the other, sha256 does not."""
    one, other = (base64.b64decode(text) for text in COLLIDING)
    assert _md5(one) == _md5(other) and one != other
    path = Path("constraints.txt")
    path.write_bytes(one)
    toy_chain.mix()
    assert verdict(ART / "mix").code == 0
    path.write_bytes(other)
    report = verdict(ART / "mix")
    assert report.code == 1 and "constraints.txt" in files_named(report)


def test_single_byte_changes_of_the_closed_set_are_all_seen(chain):
    """Positions drawn over all files of the closed set, each file at least once if there are enough; each undone."""
    rng = np.random.default_rng(0)
    files = closed_set()
    chosen = [int(each) for each in rng.permutation(len(files))]
    chosen = [*chosen, *rng.choice(len(files), max(0, CHANGES - len(files))).tolist()][:CHANGES]
    unseen = []
    for path in (files[each] for each in chosen):
        payload = path.read_bytes()
        position = int(rng.integers(len(payload)))
        changed = bytes([payload[position] ^ int(rng.integers(1, 256))])
        path.write_bytes(payload[:position] + changed + payload[position + 1 :])
        if verdict().code == 0:
            unseen.append((path, position, payload[position], changed))
        path.write_bytes(payload)
    assert not unseen
    assert verdict().code == 0


def touched(project: Path) -> Path:
    for path in project.rglob("*.*"):
        os.utime(path)
    return project


def moved(project: Path) -> Path:
    return project.rename(project.with_name(f"{project.name}x"))


def cloned(project: Path) -> Path:
    """What git keeps through git, all else from a copy of the artifacts."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    if not (project / ".git").exists():
        (project / ".gitignore").write_text("/artifacts/\n/raw/\n/.whale/\n/work/\n")
        subprocess.run([*git, "init", "-q"], cwd=project, check=True)
    subprocess.run([*git, "add", "-A"], cwd=project, check=True)
    subprocess.run([*git, "commit", "-qm", "records", "--allow-empty"], cwd=project, check=True)
    clone = project.with_name(f"{project.name}c")
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    for name in ("artifacts", "raw"):
        shutil.copytree(project / name, clone / name)
    shutil.rmtree(project)
    return clone


def restored(project: Path) -> Path:
    """Every published file a read-only hard link into a cache, as DVC leaves it after `dvc checkout`."""
    cache = project / ".dvc" / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    for number, path in enumerate(sorted(each for each in (project / "artifacts").rglob("*") if each.is_file())):
        kept = cache / str(number)
        shutil.copyfile(path, kept)
        kept.chmod(0o444)
        path.unlink()
        os.link(kept, path)
    return project


@pytest.mark.parametrize("change", [touched, moved, cloned, restored])
def test_an_untouched_chain_is_no_alarm_wherever_and_however_it_lies(chain, change, monkeypatch):
    alarms = []
    for _ in range(max(UNTOUCHED // 4, 1)):
        chain = change(chain)
        monkeypatch.chdir(chain)
        alarms += verdict().findings
    assert alarms == []


def _internal(statement: dict) -> dict:
    return statement["predicate"]["buildDefinition"]["internalParameters"]


def _md5(payload: bytes) -> str:
    import hashlib

    return hashlib.md5(payload, usedforsecurity=False).hexdigest()


COLLIDING = (  # Wang and Yu 2005
    "0THdAsXm7sRpPZoGmK/5XC/KtYcSRn6rQARYPrj7f4lVrTQGCfSzAoPkiIMlcUFaCFEl6PfNyZ/ZHb3ygDc8W9iCPjFWNI9brm2s1DbJGcbdU+K0h9oD/QI5YwbSSM2g6Z8zQg9XfujOVLZwgKgNHsaYIby2qIOTlvllK2/3KnA=",
    "0THdAsXm7sRpPZoGmK/5XC/KtQcSRn6rQARYPrj7f4lVrTQGCfSzAoPkiIMl8UFaCFEl6PfNyZ/ZHb1ygDc8W9iCPjFWNI9brm2s1DbJGcbdU+I0h9oD/QI5YwbSSM2g6Z8zQg9XfujOVLZwgCgNHsaYIby2qIOTlvllq2/3KnA=",
)


def test_a_second_verification_reads_no_file_again_and_says_so(chain):
    """Unless --deep asks for every byte."""
    first, again, deep = verdict(), verdict(), verdict(deep=True)
    files = first.checked["files read"]
    assert first.checked["files remembered"] == 0 < files
    assert deep.checked == first.checked
    assert again.checked == {**first.checked, "files read": 0, "files remembered": files}
