"""Can it be made again, and does it come out equal (Q11)? `plan` looks, `run_again` does it for one stage run.

The stage is started in a scratch folder with the code, the settings and the inputs that its statement names, and
nothing else, and what it makes is compared by sha256. Code is taken from this folder if its import closure is the one
that ran, else from git: the commit, and the patch on it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whale.audit.code_change import tree_of
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.errors import IncompleteError, MissingInputError, WhaleError
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.common.limits import RERUN_SECONDS
from whale.lineage.closure import closure_digest, code_files, import_closure
from whale.lineage.code_state import git, unpack
from whale.lineage.inputs import prove_input
from whale.lineage.keys import CONFIG_VARIABLE
from whale.seal import list_files

CODE = ("whale", "pipelines")


@dataclass
class Plan:
    """What a rerun of `run` needs; `missing` says what is not there as it was."""

    run: StageRun
    code: str
    missing: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"stage": self.run.name, "code": self.code, "missing": self.missing, "command": self.run.command}


def plan(run: StageRun, graph: RunGraph) -> list[Plan]:
    """One per run above `run`, sources first."""
    return [plan_one(each) for each in graph.ancestors(run)]


def plan_one(run: StageRun) -> Plan:
    found = Plan(run, _where_code_is(run))
    if found.code == "gone":
        found.missing.append("its code: neither here nor in git")
    for name, digest in run.settings.items():
        if not Path(name).is_file() or sha256_of_file(name) != digest:
            found.missing.append(f"{name} as it was")
    for each in run.inputs:
        try:
            if prove_input(Path(each.path), sha256_of_file).digest != each.sha256:
                found.missing.append(f"{each.path} as it was")
        except WhaleError as error:
            found.missing.append(f"{each.path}: {error.what}")
    return found


def run_again(run: StageRun) -> dict[str, Any]:
    """Start the stage anew; {"equal", "outputs": {name: [signed, found]}, "first_difference"}.

    Raises MissingInputError when something is not there as it was, IncompleteError when the stage itself fails.
    """
    needed = plan_one(run)
    if needed.missing:
        raise MissingInputError("cannot be made again", place=run.name, found="; ".join(needed.missing))
    with tempfile.TemporaryDirectory(prefix="whale-rederive-") as scratch:
        root = Path(scratch)
        place_code(root, None if needed.code == "here" else run.code["tree"])
        place_inputs(run, root)
        start(run, root)
        return _compare(run, root)


def place_inputs(run: StageRun, root: Path) -> None:
    """The settings and inputs that `run` had, below `root`.

    Hard links where the file system can, for inputs may be terabytes; a symbolic link would be refused as input.
    """
    for name in run.settings:
        if Path(name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, root / name)
    for each in run.inputs:
        sealed = [Path(name).parent for name in each.holders if Path(name).name == MANIFEST_NAME]
        for path in sealed or [Path(each.path)]:
            files = [*list_files(path), path / MANIFEST_NAME] if path.is_dir() else [path]
            for file in filter(Path.is_file, files):
                _link(file, root / file)


def start(run: StageRun, root: Path, **variables: str) -> None:
    """Run the stage below `root` as it ran; IncompleteError when it fails."""
    own = {CONFIG_VARIABLE: str(root / ".config")}  # what a scratch folder signs is no statement of this project
    environment = rerun_environment(run, root) | own | variables
    command = [sys.executable, *run.command[1:]]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=RERUN_SECONDS)
    if done.returncode:
        raise IncompleteError("the stage did not end well", place=run.name, found=done.stderr[-600:])


def _where_code_is(run: StageRun) -> str:
    entry = Path("pipelines") / f"{run.stage}.py"
    here = Path.cwd()
    if entry.is_file() and closure_digest(code_files(here, import_closure(here, entry))) == run.code["closure_sha256"]:
        return "here"
    return "git" if tree_of(run, here) is not None else "gone"


def place_code(root: Path, tree: str | None = None) -> None:
    """The code of a git tree, or that of today, as far as it has CODE."""
    if tree is None:
        for name in filter(os.path.isdir, CODE):
            shutil.copytree(name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        return
    there = git(Path.cwd(), "ls-tree", "--name-only", tree).decode().splitlines()
    unpack(Path.cwd(), tree, [name for name in CODE if name in there], root)


def rerun_environment(run: StageRun, root: Path) -> dict[str, str]:
    """Variables for the stage below `root`: those of the run, and none of this session's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "WHALE_"))}
    return kept | run.internal.get("env", {}) | _execution(run) | {"PYTHONPATH": str(root)}


def _execution(run: StageRun) -> dict[str, str]:
    """Workers, threads and device change the order of float sums, so they are those of the run."""
    facts = run.internal | run.internal.get("engine", {})
    names = {"workers": "WHALE_TRAIN_WORKERS", "threads": "WHALE_THREADS", "device": "WHALE_DEVICE"}
    return {variable: str(facts[name]) for name, variable in names.items() if name in facts}


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        try:
            os.link(os.path.realpath(source), target)
        except OSError:  # another file system
            shutil.copyfile(source, target)


def _compare(run: StageRun, root: Path) -> dict[str, Any]:
    outputs = {}
    for name, signed in run.subjects.items():
        path = root / name
        outputs[name] = [signed, sha256_of_file(path) if path.is_file() else None]
    different = [name for name, (signed, found) in outputs.items() if signed != found]
    extra = [
        path.relative_to(root).as_posix()
        for out in run.outputs
        if Path(out).name == MANIFEST_NAME
        for path in list_files((root / out).parent)
        if len(outputs) > 1 and path.relative_to(root).as_posix() not in outputs
    ]
    return {
        "stage": run.name,
        "equal": not different and not extra,
        "outputs": outputs,
        "first_difference": next(iter([*different, *extra]), None),
    }
