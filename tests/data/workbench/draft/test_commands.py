"""`whale spec init`, `check`, `preview`, `list` on a dataset that nobody described, in the order a person would."""

import json
import shutil

import pytest
from odd_dataset import write_odd

from whale.cli import run


@pytest.fixture
def project(tmp_path, monkeypatch, project_root):
    """An empty project beside <tmp>/data/odd_robot/1.0.0."""
    write_odd(tmp_path / "data")
    root = tmp_path / "project"
    (root / "data_specs" / "mixtures").mkdir(parents=True)
    shutil.copy(project_root / "data_specs/mixtures/oxe.yaml", root / "data_specs/mixtures/oxe.yaml")
    monkeypatch.chdir(root)
    return root


def answer(spec):
    """Every guess is right here: what is left to do is to say so."""
    spec.write_text(spec.read_text().replace("# ?", "#"))


def test_a_draft_is_written_once_holds_together_and_its_preview_is_a_page(project, capsys):
    raw = str(project.parent / "data" / "odd_robot" / "1.0.0")
    assert run(["spec", "init", raw, "--json"]) == 0
    drafted = json.loads(capsys.readouterr().out)
    assert (drafted["file"], drafted["problems"]) == ("data_specs/odd_robot.yaml", [])
    assert drafted["guesses"]["action.form"]["value"] == "absolute"
    assert run(["spec", "init", raw]) == 64
    assert run(["spec", "check"]) == 1 and "13 lines marked `# ?`" in capsys.readouterr().out
    answer(project / "data_specs/odd_robot.yaml")
    assert run(["spec", "check"]) == 0
    capsys.readouterr()
    assert run(["spec", "preview", "odd_robot", "--raw", raw, "--episodes", "4", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["episodes"] == 4 and (project / seen["page"]).read_text().startswith("<!doctype html>")


def test_a_spec_is_tried_on_the_data_once_they_are_linked(project, capsys):
    raw, spec = str(project.parent / "data" / "odd_robot" / "1.0.0"), project / "data_specs" / "odd_robot.yaml"
    assert run(["spec", "init", raw]) == 0 and run(["data", "link", "odd_robot", raw]) == 0
    assert run(["spec", "check", str(spec)]) == 1
    found = capsys.readouterr().out
    assert "a draft with open questions" in found and "is not there" not in found  # it is linked
    answer(spec)
    capsys.readouterr()
    assert run(["spec", "check", str(spec)]) == 0 and "1 checked against data" in capsys.readouterr().out
    text = spec.read_text()
    for wrong, says in (
        (text.replace("hw: [48, 80]", "hw: [48, 81]", 1), "12 x shape_mismatch"),
        (text.replace("key: observation/", "key: observations/", 1), "did you mean observation/"),
        (text.replace('version: "1.0.0"', 'version: "9.0.0"'), "another dataset than the spec's"),
        (text.replace('val: "train[', 'val: "trian[', 1), "no such split"),
        (text.replace("train[:80%]", "train[:1%]"), "no episode falls into train"),
        (text.replace("min_steps: 2", "min_steps: 999"), "12 x too_short"),
    ):
        assert wrong != text
        spec.write_text(wrong)
        assert run(["spec", "check", str(spec)]) == 1
        found = capsys.readouterr().out
        assert says in found, found
    only = "filters: [{key: language_instruction, equals: task 3, reason: the fourth alone}]"
    spec.write_text(text.replace("filters: []", only))
    assert run(["spec", "check", str(spec)]) == 0  # the first episodes are left out by the spec itself
    (project / "raw" / "odd_robot").unlink()
    assert run(["spec", "check", str(spec)]) == 0 and "0 checked against data" in capsys.readouterr().out


def test_a_licence_that_is_not_allowed_stops_the_profile_that_uses_it_and_no_other(project, capsys):
    assert run(["spec", "init", str(project.parent / "data" / "odd_robot" / "1.0.0")]) == 0
    assert run(["spec", "list", "--allow-licenses", "MIT"]) == 0  # no profile uses it yet
    params = "mix: {weights: {}}\ndatasets: {odd_robot: {raw: raw/odd_robot, role: pretrain}}\n"
    (project / "params.yaml").write_text(params)
    assert run(["spec", "list", "--allow-licenses", "Apache-2.0, MIT"]) == 3
    assert "odd_robot" in capsys.readouterr().err
    assert run(["spec", "list", "--allow-licenses", "LicenseRef-unverified"]) == 0
    assert run(["spec", "list"]) == 0 and run(["spec", "list", "--allow-licenses", ","]) == 64


def test_a_checkpoint_is_judged_by_one_policy_only(project, capsys):
    assert run(["lineage", "licenses", "mix", "--policy", "policy.yaml", "--allow-licenses", "MIT"]) == 64
    assert "two policies" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "a/b", "A", "", "x" * 65, "x\n"])
def test_a_name_that_is_none_writes_nothing(project, capsys, name):
    before = sorted(project.parent.rglob("*.yaml"))
    assert run(["spec", "init", str(project.parent / "data" / "odd_robot" / "1.0.0"), "--name", name]) == 64
    assert "--name" in capsys.readouterr().err and sorted(project.parent.rglob("*.yaml")) == before


def test_a_folder_that_is_no_dataset_ends_with_2(project):
    assert run(["spec", "init", "."]) == 2
