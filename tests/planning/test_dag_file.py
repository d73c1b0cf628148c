"""Code deps of dvc.yaml: exact, folded, rewritten in place."""

from pathlib import Path

import pytest

from whale.planning.dag_file import code_deps, compare, fold, rewrite

FILES = {
    "pipelines/x.py": "from whale.one import a\n",
    "whale/__init__.py": "",
    "whale/one/__init__.py": "",
    "whale/one/a.py": "from whale.one import b\nfrom whale.two import c\n",
    "whale/one/b.py": "deep = 1\n",
    "whale/two/c.py": "deep = 2\n",
    "whale/two/unused.py": "",
}


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_dvc_yaml_is_compared_and_rewritten_in_place(project):
    deps = "      - pipelines/x.py\n      - whale/two/unused.py\n      - data\n"
    text = f"# kept\nstages:\n  x:\n    cmd: c\n    deps:\n{deps}"
    (project / "dvc.yaml").write_text(text)
    (difference,) = compare(project)
    assert (difference.add, difference.drop) == (["whale/one", "whale/two/c.py"], ["whale/two/unused.py"])
    (project / "dvc.yaml").write_text(rewrite(text, project))
    assert not compare(project)
    text = (project / "dvc.yaml").read_text()
    assert (
        text.startswith("# kept\n") and "    deps: [data,\n      pipelines/x.py, whale/one, whale/two/c.py]\n" in text
    )
    assert rewrite(text, project) == text


def test_a_folder_stands_for_its_files_only_while_every_file_of_it_is_reached(project):
    reached = {Path("whale/one/a.py"), Path("whale/one/b.py"), Path("whale/two/c.py")}
    assert fold(project, reached) == ["whale/one", "whale/two/c.py"]
    (project / "whale/one/new.py").write_text("not reached\n")
    assert fold(project, reached) == ["whale/one/a.py", "whale/one/b.py", "whale/two/c.py"]


def test_templates_of_a_reached_module_are_code_and_keep_its_folder_whole(project):
    (project / "whale/one/templates").mkdir()
    (project / "whale/one/templates/page.css").write_text("p {}")
    assert code_deps(project, "x") == ["pipelines/x.py", "whale/one", "whale/two/c.py"]


def test_what_is_no_code_unfolds_nothing_as_dvc_is_told_to_pass_it_over(project):
    for name in ("table.json", "a.py.orig", ".a.py.swp", ".#a.py"):
        (project / "whale/one" / name).write_text("{}")
    assert fold(project, {Path("whale/one/a.py"), Path("whale/one/b.py")}) == ["whale/one"]
    ignored = (Path(__file__).parents[2] / ".dvcignore").read_text().splitlines()
    assert {"/whale/**", "!/whale/**/*.py", "!/whale/**/templates/*", "/whale/**/.*"} <= set(ignored)
