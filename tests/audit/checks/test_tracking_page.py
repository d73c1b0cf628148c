"""Whatever is edited in MLflow's database, its page shows, and `whale track verify` names."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import toy_chain

from whale.cli import run as whale

EDITS = {  # as anybody could with sqlite3; each beside what the finding must name
    "metric": ("UPDATE metrics SET value = 99 WHERE key LIKE '%gamma.test.psnr'", "value of metrics"),
    "shown metric": ("UPDATE latest_metrics SET value = 99 WHERE key LIKE '%from_scratch.psnr'", "latest_metrics"),
    "status": ("UPDATE runs SET status = 'FAILED' WHERE name = 'mix'", "status of runs mix"),
    "name": ("UPDATE runs SET name = 'better' WHERE name = 'ingest@alpha'", "name of runs ingest@alpha"),
    "time": ("UPDATE runs SET start_time = 1 WHERE name = 'ingest@beta'", "start_time of runs ingest@beta"),
    "param": (
        "UPDATE params SET value = '41' WHERE key LIKE '%tokenizer.optimization.training_steps'",
        "value of params",
    ),
    "param removed": ("DELETE FROM params WHERE key = 'mix.block'", "params mix.block"),
    "param added": ("INSERT INTO params SELECT 'extra', '1', run_uuid FROM runs WHERE name = 'mix'", "params extra"),
    "tag added": ("INSERT INTO tags SELECT 'best', 'yes', run_uuid FROM runs WHERE name = 'mix'", "tags best"),
    "data set": ("UPDATE datasets SET digest = 'f00' WHERE name = 'mix'", "digest of datasets mix"),
    "model": ("INSERT INTO registered_models (name, workspace) VALUES ('best', 'default')", "registered_models best"),
}


@pytest.fixture
def spooled(built_chain, chain) -> Path:
    shutil.copytree(built_chain / "work/mlflow_spool", "work/mlflow_spool")
    return chain


def test_an_untouched_page_agrees_and_each_edit_of_it_is_named(spooled, capsys):
    assert whale(["track", "verify"]) == 0
    assert "11 runs as signed" in capsys.readouterr().out
    with closing(sqlite3.connect("mlflow.db")) as store:
        for edit, _ in EDITS.values():
            assert store.execute(edit).rowcount, edit
        store.commit()
    assert whale(["track", "verify", "--json"]) == 1
    said = " ".join(each["what"] for each in json.loads(capsys.readouterr().out)["findings"])
    assert [name for name, (_, named) in EDITS.items() if named not in said] == []
    assert not list(Path().glob(".mlruns-*"))


def git(*arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def test_runs_of_an_experiment_that_nobody_has_applied_are_signed_in_its_commit(spooled, capsys):
    git("init", "-q")
    git("add", "-f", "lineage")
    git("commit", "-qm", "before")
    git("checkout", "-q", "--detach")
    toy_chain.evaluate()  # as in a copy of the project
    git("add", "-f", "lineage")
    git("commit", "-qm", "experiment")
    git("update-ref", "refs/exps/aa/bbbb/seed-1", "HEAD")
    git("reset", "-q", "--hard", "HEAD~1")
    assert whale(["track", "verify"]) == 0, capsys.readouterr().out
    assert "12 runs as signed" in capsys.readouterr().out
    git("update-ref", "-d", "refs/exps/aa/bbbb/seed-1")
    assert whale(["track", "verify"]) == 3
    assert "nobody signed this run" in capsys.readouterr().out


def test_an_experiment_whose_ledger_cannot_be_read_is_told_as_not_checked(spooled, capsys):
    git("init", "-q")
    git("add", "-f", "lineage")
    git("commit", "-qm", "before")
    git("checkout", "-q", "--detach")
    ledger = Path("lineage/ledger.jsonl")
    kept = ledger.read_bytes()
    ledger.write_bytes(kept + b"{}\n")
    git("commit", "-qam", "experiment")
    git("update-ref", "refs/exps/aa/bbbb/torn", "HEAD")
    git("rm", "-q", "--cached", "lineage/ledger.jsonl")
    git("commit", "-qm", "an experiment without a ledger")
    git("update-ref", "refs/exps/aa/bbbb/none", "HEAD")
    git("checkout", "-qf", "HEAD~2")
    git("checkout", "-q", "--detach")
    assert whale(["track", "verify"]) == 4
    said = capsys.readouterr().out
    assert said.count("INCOMPLETE  experiment ") == 1 and "not checked: its ledger cannot be read" in said
    git("update-ref", "-d", "refs/exps/aa/bbbb/torn")
    assert whale(["track", "verify"]) == 0


def test_a_page_that_was_made_of_a_changed_spool_is_found_though_both_agree(spooled, capsys):
    spool = next(Path("work/mlflow_spool").glob("evaluate_video-*.jsonl"))
    spool.write_text(spool.read_text().replace("21.5", "31.5"))
    forged = spool.with_name("mix-0000000000000000-1.jsonl")
    forged.write_text(next(spool.parent.glob("mix-*.jsonl")).read_text())
    added = next(spool.parent.glob("pretokenize@alpha-*.jsonl"))
    added.write_text(added.read_text() + '{"kind": "metrics", "time": 1, "step": 1, "metrics": {"psnr": "40"}}\n')
    next(spool.parent.glob("ingest@beta-*.jsonl")).unlink()
    assert whale(["track", "verify"]) == 1
    said = capsys.readouterr().out
    assert "evaluate_video: what this run told MLflow: not what was signed" in said
    assert "mix-0000000000000000-1: nobody signed this run" in said
    assert "pretokenize@alpha: what this run told MLflow: more was added than its end" in said
    assert "ingest@beta: what this run told MLflow is gone" in said
