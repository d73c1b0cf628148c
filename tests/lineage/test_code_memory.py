"""What is remembered of code is what reading it anew says."""

from pathlib import Path

import pytest

from whale.lineage.closure import code_files, import_closure
from whale.lineage.code_memory import CodeMemory

ROOT = Path(__file__).parents[2]
ENTRY = Path("pipelines/x.py")


@pytest.fixture
def project(tmp_path):
    for name, text in {"pipelines/x.py": "import lib.a\n", "lib/a.py": "1\n", "lib/b.py": "2\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def looked_at(root, entry, memory):
    files = import_closure(root, entry, memory)
    return files, code_files(root, files, memory)


def test_the_second_look_gives_what_the_first_gave_for_every_stage(tmp_path):
    for entry in sorted((ROOT / "pipelines").glob("[a-z]*.py")):
        name = entry.relative_to(ROOT)
        memory = CodeMemory(tmp_path / "memory.json")
        first = looked_at(ROOT, name, memory)
        memory.save()
        assert looked_at(ROOT, name, CodeMemory(tmp_path / "memory.json")) == first == looked_at(ROOT, name, None)


def test_no_edit_is_missed(project):
    path = project / "memory.json"
    memory = CodeMemory(path)
    before = looked_at(project, ENTRY, memory)
    memory.save()
    (project / "pipelines/x.py").write_text("import lib.b\n")  # the same size
    after = looked_at(project, ENTRY, CodeMemory(path))
    assert [each.as_posix() for each in after[0]] == ["lib/b.py", "pipelines/x.py"]
    assert after[1]["pipelines/x.py"]["syntax"] != before[1]["pipelines/x.py"]["syntax"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"reader": 1, "known": 1}', '{"known": {"imports": ["lib.b"]}}'])
def test_a_memory_that_is_none_is_passed_over(project, text):
    (project / "memory.json").write_text(text)
    files, _ = looked_at(project, ENTRY, CodeMemory(project / "memory.json"))
    assert [each.as_posix() for each in files] == ["lib/a.py", "pipelines/x.py"]
