"""Remembered imports are those that parsing gives, whatever happened to the files or to the cache."""

import json
import os
from pathlib import Path

import pytest

from whale.lineage.closure import import_closure
from whale.lineage.import_cache import ImportCache

ROOT = Path(__file__).parents[2]
ENTRY = Path("pipelines/x.py")


@pytest.fixture
def project(tmp_path) -> Path:
    for name, text in {"pipelines/x.py": "import lib.a\n", "lib/a.py": "1\n", "lib/b.py": "2\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    closure(tmp_path)
    return tmp_path


def closure(project: Path) -> list[str]:
    """With the cache that an earlier process left."""
    cache = ImportCache(project / "cache.json")
    found = import_closure(project, ENTRY, cache)
    cache.save()
    return [path.as_posix() for path in found]


def test_every_stage_has_the_closure_that_parsing_gives(tmp_path):
    for entry in sorted((ROOT / "pipelines").glob("[a-z]*.py")):
        for _ in range(2):
            cache = ImportCache(tmp_path / "cache.json")
            assert import_closure(ROOT, entry, cache) == import_closure(ROOT, entry)
            cache.save()


def test_an_edit_is_seen_that_keeps_size_and_times(project):
    before = os.stat(project / ENTRY)
    (project / ENTRY).write_text("import lib.b\n")
    os.utime(project / ENTRY, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert closure(project) == ["lib/b.py", "pipelines/x.py"]


def test_what_another_reader_of_imports_remembered_is_not_believed(project):
    rows = json.loads((project / "cache.json").read_bytes())
    rows["files"][ENTRY.as_posix()][1:] = ["lib.b"]
    (project / "cache.json").write_text(json.dumps(rows))
    assert "lib/b.py" in closure(project)
    (project / "cache.json").write_text(json.dumps(rows | {"reader": "0" * 64}))
    assert closure(project) == ["lib/a.py", "pipelines/x.py"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"reader": 1, "files": 1}', '{"files": {"pipelines/x.py": [1]}'])
def test_a_torn_cache_is_an_empty_one(project, text):
    (project / "cache.json").write_text(text)
    assert closure(project) == ["lib/a.py", "pipelines/x.py"]
