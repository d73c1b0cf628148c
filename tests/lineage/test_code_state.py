"""Commit, tree and patch: `git apply` of the patch onto the commit gives the recorded tree."""

import subprocess
import time
from pathlib import Path

import pytest

from whale.lineage.code_state import UNKNOWN, code_state, tree_after_patch


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "stage.py").write_text("print(1)\n")
    (tmp_path / "old.py").write_text("print(0)\n")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    (tmp_path / ".gitignore").write_text("secret\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_tree_has_no_patch_and_what_the_pipeline_writes_does_not_make_it_dirty(repository):
    (repository / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (repository / "lineage").mkdir()
    (repository / "lineage/HEAD").write_text("x")
    state = code_state(repository, [Path("stage.py")])
    assert (state.commit, state.is_dirty, state.patch) == (git(repository, "rev-parse", "HEAD"), False, b"")
    assert tree_after_patch(repository, state.commit, b"") == state.tree


def test_edits_deletions_and_used_untracked_files_are_in_the_patch_and_nothing_else_is(repository):
    (repository / "stage.py").write_text("print(2)\n")
    (repository / "old.py").unlink()
    (repository / "new.py").write_text("import os\n")
    (repository / "notes.txt").write_text("sk-CANARY")
    (repository / "secret").write_text("sk-CANARY")
    state = code_state(repository, [Path("stage.py"), Path("new.py")])
    assert state.is_dirty and b"import os" in state.patch and b"CANARY" not in state.patch
    assert tree_after_patch(repository, state.commit, state.patch) == state.tree
    assert "new.py" not in git(repository, "ls-files")


def test_without_git_nothing_is_known(tmp_path):
    assert code_state(tmp_path / "nowhere") == UNKNOWN


def test_a_patch_that_does_not_fit_is_an_error(repository):
    (repository / "stage.py").write_text("print(2)\n")
    state = code_state(repository)
    git(repository, "commit", "-qam", "second")
    with pytest.raises(subprocess.CalledProcessError):
        tree_after_patch(repository, git(repository, "rev-parse", "HEAD"), state.patch)


def test_an_edit_of_equal_length_in_the_second_of_the_commit_is_seen_a_second_later(repository):
    """git compares sizes and whole seconds, and reads a file again only if it is as young as the index."""
    index = repository / ".git/index"
    while True:
        (repository / "stage.py").write_text("print(1)\n")
        git(repository, "add", ".")
        (repository / "stage.py").write_text("print(2)\n")
        if int(index.stat().st_mtime) == int((repository / "stage.py").stat().st_mtime):
            break
    time.sleep(1.1)  # a copy of the index that is made now is younger than the file
    state = code_state(repository, [Path("stage.py")])
    assert state.is_dirty and b"+print(2)" in state.patch
