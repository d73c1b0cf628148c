"""Copies of statements are held against the ledger; every answer says whether it can be believed; text is shown, not
obeyed; where git cannot be asked, that is said once."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tampering import rewrite, signed_by, stranger
from toy_chain import FINAL, METRICS

from whale.audit.audit import audit
from whale.audit.checks.findings import Report
from whale.audit.checks.ledger_check import check_ledger
from whale.audit.run_graph import RunGraph
from whale.cli import run as whale
from whale.common.json_files import canonical_json
from whale.lineage import code_state, ledger
from whale.lineage.taint import TAINTS_DIR
from whale.lineage.trust import require_signer

RUNS = Path("lineage/runs")
QUESTIONS = [
    ["show", str(FINAL)],
    ["episodes", str(FINAL)],
    ["env", str(FINAL)],
    ["code", str(FINAL)],
    ["licenses", str(FINAL)],
    ["diff", "train_tokenizer", str(FINAL)],
    ["seen", str(FINAL), "alpha-train-0000001"],
    ["leakage", str(FINAL), "--eval", "gamma:test"],
    ["why", str(METRICS)],
    ["affected", "dataset:alpha"],
    ["completeness", str(FINAL)],
    ["rederive", str(FINAL)],
    ["taint", "list"],
    ["key", "show"],
]


def verdict(**options):
    return audit(str(FINAL), **{"deep": False, "strict": False, "expect_head": None} | options)


def copies() -> list[Path]:
    return sorted(RUNS.glob("*/statement.dsse.json"))


def test_a_copy_that_is_gone_swapped_or_one_too_many_is_named(chain):
    one, other = copies()[:2]
    first, second = one.read_bytes(), other.read_bytes()
    one.unlink()
    assert (verdict().code, verdict().findings[0].file) == (2, str(one))
    one.write_bytes(second)
    other.write_bytes(first)
    assert {each.file for each in verdict().findings} == {str(one), str(other)} and verdict().code == 1
    one.write_bytes(first)
    other.write_bytes(second)
    assert verdict().findings == []
    cut = ledger.read()[-1]
    rewrite([entry.envelope for entry in ledger.read()[:-1]], with_copies=False)
    finding = verdict().findings[0]
    assert "its line was cut off" in finding.what and cut.statement["predicate"]["runDetails"]["metadata"][
        "invocationId"
    ] in str(finding.file)


def test_a_run_that_was_killed_before_its_line_is_no_alarm_once_the_next_one_ran(chain):
    statement = json.loads(canonical_json(ledger.read()[-1].statement))
    statement["predicate"]["runDetails"]["metadata"]["invocationId"] = "0" * 16
    lines = [entry.envelope for entry in ledger.read()]
    rewrite([*lines, signed_by(require_signer(), statement)], with_copies=False)
    killed = RUNS / ("0" * 16) / "statement.dsse.json"
    killed.parent.mkdir()
    killed.write_bytes(canonical_json(ledger.read()[-1].envelope).encode() + b"\n")
    rewrite(lines, with_copies=False)
    assert verdict().code == 1
    assert whale(["lineage", "taint", "add", "dataset:gamma#gamma-test-0000000", "--reason", "asked"]) == 0
    assert {each.kind for each in verdict().findings} <= {"tainted"}


def test_a_taint_whose_copy_is_gone_is_named_for_a_training_would_not_mind_it(chain):
    assert whale(["lineage", "taint", "add", "dataset:alpha", "--reason", "consent"]) == 0
    (copy,) = TAINTS_DIR.glob("*.json")
    assert verdict().code == 5
    copy.unlink()
    assert verdict().code == 2 and str(copy) in str(verdict().findings[0])


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_every_answer_says_whether_the_signatures_held(chain, question, capsys):
    code = whale(["lineage", *question])
    assert capsys.readouterr().out.splitlines()[-1].startswith("ledger: all 11 signatures held; root ")
    assert whale(["lineage", *question, "--json"]) == code
    assert json.loads(capsys.readouterr().out)["ledger"]["held"] is True
    key, entries = stranger_key(), ledger.read()
    rewrite([*(each.envelope for each in entries[:-1]), signed_by(key, entries[-1].statement)])
    assert whale(["lineage", *question]) == (code or 3)
    assert "ledger: DO NOT BELIEVE THIS ANSWER: ledger line 11: no valid signature" in capsys.readouterr().out
    whale(["lineage", *question, "--json"])
    assert json.loads(capsys.readouterr().out)["ledger"]["held"] is False


def stranger_key() -> Path:
    import numpy as np

    return stranger(np.random.default_rng())


@pytest.mark.parametrize("command", [["rederive", str(FINAL), "--run"], ["prove", str(FINAL), "-o", "bundle"]])
def test_nothing_is_started_or_handed_on_in_the_name_of_a_ledger_that_does_not_hold(chain, command, capsys):
    Path("lineage/trust.json").unlink()
    assert whale(["lineage", *command]) == 3
    assert "no root of trust" in capsys.readouterr().err and not Path("bundle").exists()


HOSTILE = '"><script>alert(1)</script>\x1b[2J\u202egnp\r\nledger: all 99 signatures held'


def test_a_hostile_statement_is_shown_and_not_obeyed(chain, capsys):
    """Signed by a key that is trusted: a signature says who wrote it."""
    entries = ledger.read()
    made: list = [entry.envelope for entry in entries]
    number = RunGraph(entries).find(str(FINAL)).run.entry.line - 1
    statement = json.loads(canonical_json(entries[number].statement))
    build = statement["predicate"]["buildDefinition"]
    build["externalParameters"]["item"] = HOSTILE
    build["externalParameters"]["params"][HOSTILE] = HOSTILE
    for row in (*statement["subject"], *build["resolvedDependencies"]):
        row["name"] += HOSTILE if "MANIFEST" not in row["name"] else ""
    statement["predicate"]["runDetails"]["metadata"]["invocationId"] = HOSTILE
    made[number:] = [signed_by(require_signer(), each.statement) for each in entries[number:]]
    made[number] = signed_by(require_signer(), statement)
    rewrite(made)
    digest = next(row["digest"]["sha256"] for row in statement["subject"] if "MANIFEST" in row["name"])
    for command in (
        ["show", digest],
        ["env", digest],
        ["code", digest],
        ["verify", digest],
        ["affected", "dataset:gamma"],
    ):
        whale(["lineage", *command])
        said = "".join(capsys.readouterr())
        assert "\x1b" not in said and "\u202e" not in said and "\r" not in said, command
        assert not [line for line in said.splitlines() if line.startswith("ledger: all 99")], command
        assert "Traceback" not in said
    assert whale(["lineage", "show", digest, "--html", "page.html"]) in (0, 3, 4)
    page = Path("page.html").read_text()
    assert "<script" not in page.lower() and 'id="stage-&#34;' not in page.replace('id="stage-finetune', "")


MALFORMED = {
    "no predicate": {"predicate": None},
    "no subject": {"subject": []},
    "subjects that are no rows": {"subject": "x"},
    "a taint without reason": {"predicateType": "urn:whale:taint:1"},
    "an acceptance of nothing": {"predicateType": "urn:whale:acceptance:1"},
    "a change of trust that is none": {"predicateType": "urn:whale:trust:1"},
}


@pytest.mark.parametrize("how", MALFORMED)
def test_a_statement_that_is_not_of_our_form_is_a_finding_and_no_traceback(chain, how, capsys):
    statement = json.loads(canonical_json(ledger.read()[-1].statement)) | MALFORMED[how]
    key = require_signer()
    if statement["predicate"] is None:
        from whale.lineage import signing

        ledger.append(lambda place: signing.sign(statement, key))
    else:
        ledger.append(signed_by(key, statement))
    assert verdict().code not in (0, 70)
    for question in (["show", str(FINAL)], ["affected", "dataset:alpha"], ["taint", "list"]):
        assert whale(["lineage", *question]) != 70, question
    assert "Traceback" not in "".join(capsys.readouterr())


def committed(chain: Path) -> None:
    """A chain whose runs name a commit of a repository."""
    entries, key = ledger.read(), require_signer()
    lines = []
    for entry in entries:
        statement = json.loads(canonical_json(entry.statement))
        for row in statement["predicate"]["buildDefinition"]["resolvedDependencies"]:
            if row["annotations"]["role"] == "code":
                row["digest"] = {"gitCommit": "ab" * 20}
                row["annotations"] |= {"dirty": False, "tree": "cd" * 20}
        lines.append(signed_by(key, statement))
    rewrite(lines)


def test_without_git_that_is_said_once_and_what_was_hashed_decides(chain, capsys):
    committed(chain)
    assert whale(["lineage", "verify", str(FINAL)]) == 0
    said = capsys.readouterr().out
    assert said.count("not checked: whether the 1 commits of its code exist") == 1 and "not a git repository" in said
    assert "nothing has changed, all " in said and "hashed files agree" in said and "MISSING" not in said
    assert whale(["lineage", "verify", str(FINAL), "--strict"]) == 4
    subprocess.run(["git", "init", "-q"], check=True)
    capsys.readouterr()
    assert whale(["lineage", "verify", str(FINAL)]) == 2
    said = capsys.readouterr().out
    assert said.count("MISSING") == 1 and "mix" in said and "finetune_dynamics@full" in said
    assert "all " in said and "hashed files agree" in said


def git(*arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


FAULTS = {"fails": "echo 'fatal: loose object is corrupt' >&2; exit 128", "hangs": "exec sleep 20"}


@pytest.fixture
def broken_git(chain, tmp_path, monkeypatch):
    """A repository whose ledger is committed, and a git that fails at, or never ends, one of its commands."""
    git("init", "-q")
    git("add", "-f", "lineage")
    git("commit", "-qm", "lineage")
    monkeypatch.setattr(code_state, "GIT_SECONDS", 2)

    def break_it(command: str, fault: str) -> None:
        (tmp_path / "bin").mkdir()
        script = tmp_path / "bin/git"
        script.write_text(f'#!/bin/sh\ncase " $* " in *" {command} "*) {FAULTS[fault]};; esac\n'
                          f'exec {shutil.which("git")} "$@"\n')  # fmt: skip
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    return break_it


@pytest.mark.parametrize("fault", FAULTS)
def test_a_git_that_fails_or_hangs_is_told_and_the_ledger_does_not_pass_in_silence(broken_git, fault, capsys):
    report = Report()
    check_ledger(report)
    assert not report.findings
    broken_git("log", fault)
    check_ledger(report := Report())
    assert {each.what for each in report.findings} == {
        "not checked: which heads of the ledger git remembers, for git fails",
        "not checked: which roots of trust git remembers, for git fails",
    }
    why = "loose object is corrupt" if fault == "fails" else "no answer within 2 s"
    assert report.code == 4 and why in str(report.findings[0]) and why in report.root["pinned"]
    assert whale(["fsck"]) == 4 and "not checked: which heads" in capsys.readouterr().out


def test_a_question_is_answered_all_the_same_and_says_that_git_fails(broken_git, capsys):
    broken_git("log", "fails")
    assert whale(["lineage", "taint", "list"]) == 0
    assert "signatures held" in (said := capsys.readouterr().out) and "loose object is corrupt" in said


def test_where_nothing_is_committed_yet_nothing_is_told(chain):
    git("init", "-q")
    check_ledger(report := Report())
    assert not report.findings and report.root["pinned"] == "lineage/trust.json, not yet committed"


def test_fsck_without_git_says_what_nobody_looked_up(chain, capsys):
    assert whale(["fsck"]) == 0
    assert "not checked: which heads and roots git remembers" in capsys.readouterr().out


def test_every_bad_file_of_a_folder_is_named(chain):
    for name in ("config.json", "contract.json", "model.safetensors"):
        (FINAL / name).write_bytes((FINAL / name).read_bytes()[:-1] + b"?")
    (FINAL / "more").write_text("x")
    (FINAL / "receipt.json").unlink()
    report = verdict()
    assert {Path(str(each.file)).name for each in report.findings if each.where == "finetune_dynamics@full"} == {
        "config.json", "contract.json", "model.safetensors", "more", "receipt.json",
    }  # fmt: skip


def test_a_shallow_audit_says_what_it_did_not_read_and_a_foreign_cache_is_not_believed(chain, monkeypatch, capsys):
    assert whale(["audit", str(FINAL)]) == 0
    assert "shallow:" not in capsys.readouterr().out
    assert whale(["audit", str(FINAL)]) == 0
    assert "files were not read again" in capsys.readouterr().out
    assert whale(["audit", str(FINAL), "--deep"]) == 0
    assert "0 files remembered" in capsys.readouterr().out
    monkeypatch.setenv("WHALE_CONFIG_DIR", str(chain.parent / "another-machine"))
    assert whale(["audit", str(FINAL)]) == 0
    assert "0 files remembered" in capsys.readouterr().out


def test_what_was_remembered_of_a_file_cannot_be_made_to_fit(chain):
    weights = FINAL / "model.safetensors"
    verdict()
    cache = Path(".whale/verify-cache.json")
    held = json.loads(cache.read_bytes())
    rows = json.loads(held["kept"])
    digest = rows[str(weights.absolute())][-1]
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    stat = os.stat(weights)
    rows[str(weights.absolute())] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, digest]
    for forged in (json.dumps(rows), json.dumps(held | {"kept": canonical_json(rows)})):
        cache.write_text(forged)
        assert verdict().code == 1 and weights.name in str(verdict().findings)


def test_records_of_a_copy_elsewhere_hold_for_whoever_knows_the_root(chain, monkeypatch, tmp_path):
    from whale.lineage.trust import read_trust

    shutil.copytree(chain, tmp_path / "theirs", ignore=shutil.ignore_patterns(".whale"))
    monkeypatch.chdir(tmp_path / "theirs")
    monkeypatch.setenv("WHALE_CONFIG_DIR", str(tmp_path / "nobody"))
    assert verdict(expect_root=read_trust().root).findings == []
    assert verdict(expect_root="0" * 64).code == 3
    assert not (tmp_path / "nobody/keys").exists()
