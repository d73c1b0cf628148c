import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from whale.lineage.code_state import UNKNOWN
from whale.runtime.guard.beforehand import Beforehand


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    (tmp_path / "stage.py").write_text("print(1)\n")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_code_of_a_run_is_that_of_its_beginning(repository):
    (repository / "stage.py").write_text("print(2)\n")
    before = Beforehand(repository, [Path("stage.py")])
    state, files = before.code_state(), before.code_files()
    (repository / "stage.py").write_text("print(3)\n")
    assert before.code_state() is state
    assert state.is_dirty and b"+print(2)" in state.patch
    digests = {name: getattr(hashlib, name)(b"print(2)\n").hexdigest() for name in ("md5", "sha256")}
    assert before.code_files() == files == {"stage.py": {"bytes": 9, **digests}}


def test_of_code_that_lies_elsewhere_no_commit_is_known(repository, tmp_path_factory):
    assert Beforehand(tmp_path_factory.mktemp("elsewhere"), []).code_state() == UNKNOWN


def test_signing_is_loaded_meanwhile():
    code = (
        "import sys, pathlib; from whale.runtime.guard.beforehand import Beforehand;"
        "Beforehand(pathlib.Path('/'), []); import threading;"
        "[t.join() for t in threading.enumerate() if t.name.startswith('record')];"
        "sys.exit('cryptography.hazmat.primitives.asymmetric.ec' not in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
