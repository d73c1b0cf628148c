"""Run a small part of a stage with the code that ran and with today's, and compare the bytes (`whale accept --check`).

The part: for stages that go over many one shard, or one source file with train episodes (statistics are made of them);
a few steps of a training, few episodes of an evaluation. Both runs start in scratch folders with the same inputs,
settings and cuts.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from whale.audit.checks.rederive import place_code, place_inputs, start
from whale.audit.code_change import tree_of
from whale.audit.run_graph import StageRun
from whale.common.config import load_yaml
from whale.common.errors import MissingInputError
from whale.common.files import sha256_of_file
from whale.seal import list_files

CUTS: Mapping[str, int] = {"training_steps": 3, "save_every": 3, "max_episodes": 1, "max_train_episodes": 2}


def check_sample(run: StageRun, root: Path) -> dict[str, Any]:
    """{"equal", "files", "first_difference", "part"} of the two runs.

    Raises MissingInputError when the code of then is gone, IncompleteError when a run does not end well.
    """
    tree = tree_of(run, root)
    if tree is None:
        raise MissingInputError("the code that ran is gone", place=run.name, found=run.code["commit"])
    (root / "work").mkdir(exist_ok=True)  # on the file system of the inputs
    with tempfile.TemporaryDirectory(prefix="check-", dir=root / "work") as scratch:
        then, now = Path(scratch) / "then", Path(scratch) / "now"
        then.mkdir()
        place_code(then, tree)
        place_code(now)
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
    place_inputs(run, root)
    params = load_yaml(root / "params.yaml")
    section = params.get(run.stage)
    (root / "params.yaml").write_text(yaml.safe_dump(params | {run.stage: _cut(section)}, sort_keys=False))
    start(run, root, WHALE_SAMPLE="1")
    folder = root / Path(run.outputs[0]).parent
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in list_files(folder)}


def _cut(value: Any) -> Any:
    """Every budget of a section, no larger than its cut."""
    if isinstance(value, dict):
        return {key: min(each, CUTS[key]) if _is_budget(key, each) else _cut(each) for key, each in value.items()}
    return value


def _is_budget(key: str, value: Any) -> bool:
    return key in CUTS and isinstance(value, int) and not isinstance(value, bool)
