"""pyproject.toml declares what the code imports, and nothing else in its core."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NAMED_OTHERWISE = {"OpenGL": "pyopengl"}  # of the extras that nobody has to install
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


def imported() -> dict[str, set[str]]:
    """Distributions that whale/ and pipelines/ import: name -> all that provide one of the imported packages."""
    modules: set[str] = set()
    for path in (path for folder in ("whale", "pipelines") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(str(node.module).partition(".")[0])
    others = modules - set(sys.stdlib_module_names) - {"whale", "pipelines"}
    by_module = packages_distributions()
    return {
        module: {canonicalize_name(each) for each in by_module.get(module, [NAMED_OTHERWISE.get(module, module)])}
        for module in others
    }


def test_every_core_dependency_is_imported():
    provided = set().union(*imported().values())
    assert names(PROJECT["dependencies"]) <= provided


def test_every_import_is_declared():
    extras = PROJECT["optional-dependencies"]
    declared = names(PROJECT["dependencies"]).union(*(names(extras[extra]) for extra in extras if extra != "dev"))
    assert not {module for module, providers in imported().items() if not providers & declared}
