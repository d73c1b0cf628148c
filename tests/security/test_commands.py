"""S11: no value of params.yaml is a command, under `dvc repro`, `python -m whale.run` and `whale` alike."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from whale.common.errors import ConfigError
from whale.pipeline_file import PIPELINE, nodes_of, stage_bodies

ROOT = Path(__file__).parents[2]
ATTACK = "x;touch F;"
PLACES = {
    "profile": lambda params, text: params.update(profile=text),
    "a key of collect": lambda params, text: params["collect"].update({text: params["collect"].pop("fleet")}),
    "a key of datasets": lambda params, text: params["datasets"].update({text: params["datasets"]["fleet_delta"]}),
    "raw": lambda params, text: params["datasets"]["fleet_delta"].update(raw=text),
    "role": lambda params, text: params["datasets"]["fleet_delta"].update(role=text),
    "initial": lambda params, text: params["finetune_dynamics"]["full"].update(initial=text),
    "a weight": lambda params, text: params["mix"]["weights"].update({text: {"weight": 1.0, "source": "ours"}}),
    "a size": lambda params, text: params["train_dynamics"].update({text: params["train_dynamics"]["full"]}),
}
ATTACKS = [ATTACK, "$(touch F)", "`touch F`", "x\ntouch F\n", "x'\";touch F #", "x|touch F", "x&touch F&"]


def write_params(folder: Path, place: str, text: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    PLACES[place](params, text)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """What DVC needs to begin: every code dep is there."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("whale", "pipelines", "docs", "data_specs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "images"))
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, env=variables, capture_output=True, text=True)


@pytest.mark.slow
def test_dvc_repro_itself_runs_no_value(project):
    """Every place at once, each with a marker of its own."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for number, (place, change) in enumerate(reversed(PLACES.items())):
        if place != "a key of datasets":  # raw and role are those of its entries
            change(params, f"x;touch F{number};")
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    done = run(project, "dvc", "repro", "-s", "collect")
    assert done.returncode and re.search(r"not a name\n  file: +params\.yaml", done.stderr), done.stderr
    assert not [path for path in project.rglob("F*") if re.fullmatch(r"F\d+;?", path.name)]


def test_no_template_stands_in_any_command():
    for name, body in stage_bodies(ROOT / PIPELINE).items():
        assert body["cmd"] == f"python -m whale.run {name}"


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_name_is_refused_before_anything_runs(tmp_path, place, attack):
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    write_params(tmp_path, place, attack)
    if place == "raw" and "\n" not in attack:
        assert nodes_of(tmp_path)  # a path of a person, which no shell ever sees
        return
    with pytest.raises(ConfigError, match=r"(?s)not a (name|path).*params\.yaml.*place:.*found:.*expected:"):
        nodes_of(tmp_path)


@pytest.mark.parametrize("command", [("whale.run", "collect"), ("whale.cli", "plan"), ("whale.cli", "metrics")])
def test_the_first_command_of_any_kind_refuses(project, command):
    write_params(project, "profile", ATTACK)
    done = run(project, *command)
    assert done.returncode == 64 and re.search(r"not a name\n  file: +params\.yaml", done.stderr), done.stderr
    assert not (project / "F").exists()


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 1.5, True, None, "", ".", "..", "../x", "a/b", "A", "x" * 200])
def test_a_name_is_a_name_whatever_its_type(tmp_path, value):
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    write_params(tmp_path, "profile", value)
    with pytest.raises(ConfigError, match="profile"):
        nodes_of(tmp_path)
