"""Run a small part of a stage with the code that ran and with today's, and compare the bytes (`whale accept --check`).

The part: for stages that go over many one shard, or one source file with train episodes (statistics are made of them);
a few steps of a training, few episodes of an evaluation. Both runs start in scratch folders with the same inputs,
settings and cuts.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from whale.audit.checks.rederive import CODE, TIMEOUT, input_paths, rerun_environment
from whale.audit.code_change import tree_of
from whale.audit.run_graph import StageRun
from whale.common.config import load_yaml
from whale.common.errors import IncompleteError, MissingInputError
from whale.common.files import sha256_of_file
from whale.lineage.code_state import git, unpack
from whale.seal import MANIFEST_NAME, list_files

CUTS: Mapping[str, int] = {"training_steps": 3, "save_every": 3, "max_episodes": 1, "max_train_episodes": 2}


def check_sample(run: StageRun, root: Path) -> dict[str, Any]:
    """{"equal", "files", "first_difference", "part"} of the two runs.

    Raises MissingInputError when the code of then is gone, IncompleteError when a run does not end well.
    """
    tree = tree_of(run, root)
    if tree is None:
        raise MissingInputError("the code that ran is gone", place=run.name, found=run.code["commit"])
    with tempfile.TemporaryDirectory(prefix="check-", dir=_beside_inputs(root)) as scratch:
        then, now = Path(scratch) / "then", Path(scratch) / "now"
        then.mkdir()
        there = git(root, "ls-tree", "--name-only", tree).decode().splitlines()
        unpack(root, tree, [name for name in CODE if name in there], then)
        for name in (name for name in CODE if (root / name).is_dir()):
            shutil.copytree(root / name, now / name, ignore=shutil.ignore_patterns("__pycache__"))
        made = [_made(run, each) for each in (then, now)]
    different = sorted(name for name in {*made[0], *made[1]} if made[0].get(name) != made[1].get(name))
    return {
        "equal": not different,
        "files": len(made[0]),
        "first_difference": different[0] if different else None,
        "part": {name: value for name, value in CUTS.items()} | {"parts": 1},
    }


def _made(run: StageRun, root: Path) -> dict[str, str]:
    """Run the part below `root`; {file: sha256} of the output."""
    for name in run.settings:
        if Path(name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, root / name)
    params = load_yaml(root / "params.yaml")
    section = params.get(run.stage)
    (root / "params.yaml").write_text(yaml.safe_dump(params | {run.stage: _cut(section)}, sort_keys=False))
    for each in run.inputs:
        for path in input_paths(Path(each.path), each.holders):
            _place(path, root / path)
    environment = rerun_environment(run, root) | {"WHALE_SAMPLE": "1"}
    command = [sys.executable, *run.command[1:]]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode:
        raise IncompleteError("the stage did not end well on a sample", place=run.name, found=done.stderr[-600:])
    folder = root / Path(run.outputs[0]).parent
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in list_files(folder)}


def _beside_inputs(root: Path) -> Path:
    """A folder on the file system of the project."""
    (root / "work").mkdir(exist_ok=True)
    return root / "work"


def _cut(value: Any) -> Any:
    """Every budget of a section, no larger than its cut."""
    if isinstance(value, dict):
        return {key: min(each, CUTS[key]) if _is_budget(key, each) else _cut(each) for key, each in value.items()}
    return value


def _is_budget(key: str, value: Any) -> bool:
    return key in CUTS and isinstance(value, int) and not isinstance(value, bool)


def _place(source: Path, target: Path) -> None:
    """Hard links where the file system can, for inputs may be terabytes; a symbolic link would be refused as input."""
    pairs = [(source, target)]
    if source.is_dir():
        files = [*list_files(source), source / MANIFEST_NAME]
        pairs = [(file, target / file.relative_to(source)) for file in files]
    for file, link in pairs:
        link.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file() and not link.exists():
            try:
                os.link(os.path.realpath(file), link)
            except OSError:  # another file system
                shutil.copyfile(file, link)
