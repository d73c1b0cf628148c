"""Stages that DVC runs as an experiment, perhaps in a copy of the project that it throws away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from whale.audit.checks.findings import Report
from whale.audit.checks.ledger_check import check_ledger
from whale.guard import experiment
from whale.lineage.statement import in_toto
from whale.lineage.trust import TRUST, sign_into_ledger
from whale.run import _bring_tracking_up_to_date


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A git repository as current folder, with a ledger that git knows and a record that it does not."""
    monkeypatch.chdir(tmp_path)
    for name in (experiment.NAME, experiment.ROOT, "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    Path("lineage/runs/0123").mkdir(parents=True)
    Path("lineage/ledger.jsonl").write_text("1\n")
    Path(".gitignore").write_text("/lineage/runs/*/timings.json\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "."]):
        subprocess.run([*git, *arguments], check=True)
    for name in ("statement.dsse.json", "timings.json"):
        Path("lineage/runs/0123", name).write_text("{}")
    return tmp_path


def staged() -> list[str]:
    return subprocess.run(["git", "diff", "--cached", "--name-only"], capture_output=True, text=True).stdout.split()


def test_records_of_an_experiment_are_in_gits_index_so_that_dvc_commits_them(project, monkeypatch):
    monkeypatch.setenv(experiment.NAME, "seed-1")
    experiment.keep_with_experiment()
    assert staged() == ["lineage/runs/0123/statement.dsse.json"]  # a clock is in timings.json: git ignores it


def test_outside_of_experiments_nobody_touches_the_index(project):
    experiment.keep_with_experiment()
    assert staged() == []


def test_without_git_the_run_is_told_that_its_record_is_not_kept_and_does_not_fail(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(experiment.NAME, "seed-1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    experiment.keep_with_experiment()
    assert "lineage/ is not in the experiment's commit" in capsys.readouterr().out


def test_home_is_the_project_that_dvc_copied_and_else_the_current_folder(project, tmp_path_factory, monkeypatch):
    assert experiment.home() == project
    monkeypatch.setenv(
        experiment.ROOT, "/elsewhere"
    )  # DVC sets it for each stage; only an experiment may lie elsewhere
    assert experiment.home() == project
    monkeypatch.setenv(experiment.NAME, "seed-1")
    assert experiment.home() == Path("/elsewhere")


def test_a_copy_signs_under_the_root_of_the_project_also_where_git_does_not_know_it_yet(project, monkeypatch):
    Path("lineage/ledger.jsonl").unlink()
    sign_into_ledger(in_toto("urn:test:1", [], {}))
    pinned, copy = TRUST.read_bytes(), project / ".dvc/tmp/exps/one"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv(experiment.ROOT, str(project))
    monkeypatch.setenv(experiment.NAME, "seed-1")
    experiment.carry_trust()
    sign_into_ledger(in_toto("urn:test:1", [], {}))
    report = Report()
    check_ledger(report)
    assert TRUST.read_bytes() == pinned and report.code == 0, report.findings
    TRUST.write_text("of the copy")
    experiment.carry_trust()
    assert TRUST.read_text() == "of the copy"  # what git brought is never replaced


def test_all_stages_of_one_dvc_process_have_one_name_and_those_of_an_experiment_its_name_in_front(monkeypatch):
    script = "from whale.guard.experiment import facts; print(facts())"
    here = os.environ | {"DVC_STAGE": "x"}
    run = [sys.executable, "-c", script]
    first, second = (subprocess.run(run, env=here, capture_output=True, text=True).stdout for _ in range(2))
    assert first == second and "dvc" in first and "experiment" not in first
    third = subprocess.run(run, env=here | {experiment.NAME: "seed-1"}, capture_output=True, text=True).stdout
    assert "'experiment': 'seed-1'" in third and "'dvc': 'seed-1-" in third


def test_a_store_that_cannot_be_written_is_a_warning_when_the_stage_has_ended_well(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("work/mlflow_spool/replay.lock").mkdir(parents=True)  # a folder where the replay keeps its lock
    _bring_tracking_up_to_date()
    assert "MLflow is not up to date" in capsys.readouterr().err


def test_all_that_one_whale_run_starts_is_one_run(monkeypatch):
    """It starts DVC for each data stage; the stages hang below one parent all the same."""
    monkeypatch.setenv("DVC_STAGE", "ingest@a")
    monkeypatch.setenv(experiment.RUN, "")  # put back at the end of the test
    monkeypatch.setattr(experiment, "find_dvc", os.getppid)
    alone = experiment.facts()["dvc"]
    experiment.start_run()
    monkeypatch.setattr(experiment, "find_dvc", lambda: 1)  # another DVC
    together = experiment.facts()["dvc"]
    assert together.startswith(f"{os.getpid()}-") and together != alone
    monkeypatch.delenv("DVC_STAGE")
    assert "dvc" not in experiment.facts()
