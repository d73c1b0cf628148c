"""Tampers drawn at random (tampering.py): none is missed. `make fuzz` draws 1,000.

In half of them the project lies in git with its records committed, and `verify` is asked as it is. In the others there
is no git, and the reader knows root and head from elsewhere, as a third party does.
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tampering import TAMPERS, git
from toy_chain import FINAL

from whale.audit.audit import audit
from whale.lineage import ledger
from whale.lineage.trust import read_trust

TAMPERED = int(os.environ.get("WHALE_FUZZ_TAMPERS", 30))
SEED = int(os.environ.get("WHALE_FUZZ_SEED", 0))


@pytest.fixture
def committed(chain) -> Path:
    """The chain in git, all but its data."""
    Path(".gitignore").write_text("/artifacts/\n/raw/\n/.whale/\n/work/\n")
    subprocess.run(["git", "init", "-q"], check=True)
    git("add", "-A")
    git("commit", "-qm", "records")
    return chain


def test_no_tamper_is_missed_and_none_ends_in_a_traceback(committed, tmp_path, monkeypatch, capsys):
    root, head = read_trust().root, ledger.HEAD.read_text().strip()
    missed, seen = [], {}
    for number in range(TAMPERED):
        rng = np.random.default_rng([SEED, number])
        tamper, in_git = TAMPERS[number % len(TAMPERS)], bool((number // len(TAMPERS) + number) % 2)
        place = tmp_path / "tampered" / "project"
        shutil.copytree(committed, place, symlinks=True)
        monkeypatch.chdir(place)
        if not in_git:
            shutil.rmtree(".git")
        words = f"{number} ({'git' if in_git else 'told'}): "
        try:
            words += tamper(rng)
        except subprocess.CalledProcessError:  # nothing to commit with, outside of git
            assert not in_git
        known = {} if in_git else {"expect_root": root, "expect_head": head}
        report = audit(str(FINAL), deep=False, strict=False, **({"expect_head": None} | known))
        seen[tamper.__name__] = seen.get(tamper.__name__, 0) + 1
        if report.code == 0 or not all(each.file for each in report.findings):
            missed.append((words, report.code, report.findings))
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(tmp_path / "tampered")
    with capsys.disabled():
        if TAMPERED >= 300:
            print(f"\n{TAMPERED} tampers, {len(missed)} missed: {seen}")
    assert not missed


def test_the_untampered_project_raises_no_alarm_in_git_or_with_root_and_head_told(committed):
    known = {"expect_root": read_trust().root, "expect_head": ledger.HEAD.read_text().strip()}
    options = {"deep": False, "strict": False, "expect_head": None}
    assert audit(str(FINAL), **options).findings == []
    shutil.rmtree(".git")
    assert audit(str(FINAL), **(options | known)).findings == []
