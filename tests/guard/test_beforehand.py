import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from whale.guard.beforehand import Beforehand
from whale.lineage.closure import code_files
from whale.lineage.code_state import UNKNOWN
from whale.lineage.file_digests import FileDigests


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    (tmp_path / "stage.py").write_text("print(1)\n")
    (tmp_path / "params.yaml").write_text("a: 1\n")
    (tmp_path / "data_specs").mkdir()
    (tmp_path / "data_specs/x.yaml").write_text("x\n")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def beforehand(repository: Path) -> Beforehand:
    return Beforehand(repository, code_files(repository, [Path("stage.py")]), FileDigests())


def test_the_state_of_a_run_is_that_of_its_beginning(repository):
    """Asked for the first time after the edit."""
    (repository / "stage.py").write_text("print(2)\n")
    before = beforehand(repository)
    await_the_record_thread()
    (repository / "stage.py").write_text("print(3)\n")
    (repository / "params.yaml").write_text("a: 2\n")
    state = before.code_state()
    assert state.is_dirty and b"+print(2)" in state.patch and b"print(3)" not in state.patch
    assert before.settings()["params.yaml"] == hashlib.sha256(b"a: 1\n").hexdigest()
    assert before.settings()["data_specs/x.yaml"] == hashlib.sha256(b"x\n").hexdigest()


def test_what_is_edited_meanwhile_is_named(repository):
    before = beforehand(repository)
    assert before.changed_code() == before.changed_settings(["params.yaml", "data_specs/x.yaml"]) == []
    (repository / "stage.py").touch()  # the same bytes
    assert before.changed_code() == []
    (repository / "stage.py").write_text("print(9)\n")  # of the same length
    (repository / "data_specs/x.yaml").unlink()
    (repository / "data_specs/new.yaml").write_text("new\n")
    assert before.changed_code() == ["stage.py"]
    names = ["params.yaml", "data_specs", "data_specs/x.yaml", "data_specs/new.yaml", "data_specs/never.yaml"]
    assert before.changed_settings(names) == ["data_specs/new.yaml", "data_specs/x.yaml"]


def test_what_cannot_be_read_is_no_failure_of_a_run_that_never_read_it(repository):
    (repository / "data_specs/.#x.yaml").symlink_to("user@host.1234")  # as an editor locks a file
    (repository / "profiles").symlink_to("profiles")
    before = beforehand(repository)
    assert before.settings().keys() == {"params.yaml", "data_specs/x.yaml"}


def test_of_code_that_lies_elsewhere_no_commit_is_known(repository, tmp_path_factory):
    assert Beforehand(tmp_path_factory.mktemp("elsewhere"), {}, FileDigests()).code_state() == UNKNOWN


def await_the_record_thread() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("record"):
            thread.join()


def test_signing_is_loaded_meanwhile():
    code = (
        "import sys, pathlib; from whale.guard.beforehand import Beforehand;"
        "from whale.lineage.file_digests import FileDigests;"
        "Beforehand(pathlib.Path('/'), {}, FileDigests()); import threading;"
        "[t.join() for t in threading.enumerate() if t.name.startswith('record')];"
        "sys.exit('cryptography.hazmat.primitives.asymmetric.ec' not in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
