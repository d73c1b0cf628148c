"""One toy chain per test run; each test works on a copy, whose files are hard to tell from the original's."""

import os
import shutil
from pathlib import Path

import pytest
import toy_chain


@pytest.fixture(scope="session")
def built_chain(tmp_path_factory) -> Path:
    root, before = tmp_path_factory.mktemp("chain"), Path.cwd()
    os.chdir(root)
    try:
        toy_chain.build()
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def chain(built_chain, tmp_path, monkeypatch) -> Path:
    """The current folder: a copy of the chain (a moved folder, with other times) that a test may damage."""
    shutil.copytree(built_chain, tmp_path / "project", ignore=shutil.ignore_patterns("work", "locks"))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"
