"""The import closure is what a stage's result depends on, no less and no more."""

import subprocess
import sys
from pathlib import Path

import pytest

from whale.lineage.closure import closure_digest, code_files, import_closure, is_inert

ROOT = Path(__file__).parents[2]
FILES = {
    "pipelines/__init__.py": "",
    "pipelines/x.py": "from lib.a import f\nimport typing\nif typing.TYPE_CHECKING:\n    import lib.types\n",
    "lib/__init__.py": "",
    "lib/a.py": "import numpy\ndef f():\n    from lib import b\n    return b\n",
    "lib/b.py": "from lib.c import deep\n",
    "lib/c.py": "deep = 1\n",
    "lib/types.py": "",
    "lib/unused.py": "",
}
CLOSURE = ["lib/a.py", "lib/b.py", "lib/c.py", "pipelines/x.py"]


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def closure(project):
    return [path.as_posix() for path in import_closure(project, Path("pipelines/x.py"))]


LAZY = (
    '"""A text."""\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lib.unused import f\n'
    '__all__ = ["f"]\n'
    "def __getattr__(name):\n    from lib.unused import f\n    return f\n"
)


@pytest.mark.parametrize(
    ("text", "counts"),
    [(LAZY, False), (LAZY + "import os\n", True), (LAZY + "print(1)\n", True), ("def f():\n    pass\n", True)],
)
def test_a_package_that_only_fetches_names_on_demand_runs_nothing_and_is_left_out(project, text, counts):
    (project / "lib/__init__.py").write_text(text)
    assert ("lib/__init__.py" in closure(project)) == counts
    assert ("lib/unused.py" in closure(project)) == (counts and "lib.unused" in text)


def test_imports_in_functions_count_type_checking_and_empty_packages_do_not(project):
    assert closure(project) == CLOSURE


def test_a_package_that_runs_code_counts(project):
    (project / "lib/__init__.py").write_text("import lib.unused\n")
    assert {"lib/__init__.py", "lib/a.py"} <= set(closure(project))


def test_the_digest_changes_with_an_edit_inside_and_not_with_one_outside(project):
    paths = import_closure(project, Path("pipelines/x.py"))
    before = closure_digest(code_files(project, paths))
    (project / "lib/unused.py").write_text("edited = 1\n")
    assert closure_digest(code_files(project, paths)) == before
    (project / "lib/c.py").write_text("deep = 2\n")
    assert closure_digest(code_files(project, paths)) != before


def test_templates_beside_a_reached_module_count_and_each_of_their_bytes(project):
    for folder in ("lib", "elsewhere"):
        (project / folder / "templates").mkdir(parents=True)
        (project / folder / "templates" / "page.html").write_text("word # no comment here\n")
    assert closure(project) == sorted([*CLOSURE, "lib/templates/page.html"])
    paths = import_closure(project, Path("pipelines/x.py"))
    before = closure_digest(code_files(project, paths), "syntax")
    (project / "lib/templates/page.html").write_text("word\n")
    assert closure_digest(code_files(project, paths), "syntax") != before


def test_what_python_really_imports_is_in_the_closure():
    """The static closure against the interpreter: every project file in sys.modules must be listed."""
    script = "import sys, pipelines.mix\nfor m in list(sys.modules.values()): print(getattr(m, '__file__', None) or '')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {Path(line) for line in done.stdout.split("\n") if line.startswith(str(ROOT)) and ".venv" not in line}
    real = {path.relative_to(ROOT) for path in loaded if path.name != "__init__.py" or not is_inert(path)}
    assert real <= set(import_closure(ROOT, Path("pipelines/mix.py")))
