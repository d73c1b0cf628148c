"""What re-runs when something changes: the real dvc.yaml under a real DVC, with commands that only hash their deps."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from without_finetuning import without_finetuning

from whale.common.config import load_yaml
from whale.pipeline_file import expand, is_code
from whale.planning.profile import FINETUNING

ROOT = Path(__file__).parents[1]
OUTSIDE = ("guard", "lineage", "audit", "planning", "commands", "tracking")
DVC = str(Path(sys.executable).parent / "dvc")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """All stages run once; every output is a hash of its stage's deps and of the files with values."""
    root = tmp_path_factory.mktemp("repository")
    for name in ("whale", "pipelines", "data_specs", "profiles", "docs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copy(ROOT / ".dvcignore", root)
    write_dvc_yaml(root)
    (root / ".dvc").mkdir()
    settings = f"[core]\n    no_scm = true\n    analytics = false\n    site_cache_dir = {root}/.dvc/tmp/site\n"
    (root / ".dvc" / "config").write_text(settings)
    expected = set(re.findall(r"^(\S+)", dvc(root, "stage", "list", "--name-only"), re.M))
    assert ran(dvc(root, "repro")) == expected
    return root


def test_a_profile_without_fine_tuning_runs_from_its_first_stage_to_its_last(repository, tmp_path):
    for name in ("whale", "pipelines", "data_specs", "docs", ".dvcignore", "dvc.yaml"):
        (shutil.copytree if (repository / name).is_dir() else shutil.copy)(repository / name, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    settings = (repository / ".dvc/config").read_text().replace(str(repository), str(tmp_path))
    (tmp_path / ".dvc/config").write_text(settings)
    params = without_finetuning(load_yaml(ROOT / "params.yaml"))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    found = stages(ran(dvc(tmp_path, "repro")))
    assert found == {node.stage for node in expand(load_yaml(ROOT / "dvc.yaml"), params)}
    assert {"collect", "train_dynamics", "evaluate_video", "evaluate_uncertainty", "report"} <= found
    assert not found & set(FINETUNING)


def write_dvc_yaml(root):
    document = load_yaml(ROOT / "dvc.yaml")
    for body in document["stages"].values():
        body = body.get("do", body)
        data = [dep for dep in body["deps"] if not is_code(dep)]
        # test_dag proves the code deps; a few stand for all, since DVC rewrites the whole lock file at every stage.
        body["deps"] = data + [
            dep for dep in body["deps"] if dep.startswith(("pipelines/", "whale/evaluation/", "whale/reporting"))
        ]
        files = [path if path.endswith(".json") else f"{path}/file" for path in body.get("outs", [])]
        made = [f"mkdir -p $(dirname {path}) && echo $digest > {path}" for path in files]
        if body["cmd"].startswith("python -m whale.run collect"):
            made += [
                f"mkdir -p {body['outs'][0]}/{name} && echo $digest > {body['outs'][0]}/{name}/file"
                for name in sources()
            ]
        hashed = (
            f"digest=$(find {' '.join(data)} params.yaml data_specs -type f | sort | xargs cat | cksum | cut -d' ' -f1)"
        )
        body["cmd"] = " && ".join([hashed, *made])
    (root / "dvc.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def sources():
    return [Path(row["raw"]).name for row in load_yaml(ROOT / "params.yaml")["datasets"].values()]


def dvc(root, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment |= {"SHELL": "/bin/sh", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run([DVC, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ran(output):
    return set(re.findall(r"Running stage '([^']+)'", output))


def stale(root):
    return set(yaml.safe_load(dvc(root, "status", "--json")) or {})


def stages(names):
    return {name.partition("@")[0] for name in names}


@pytest.fixture
def edit(repository):
    """edit(path, old, new): change a file for one test; afterwards it is as before."""
    before = {}

    def change(name, old, new):
        path = repository / name
        before[path] = path.read_text()
        assert old in before[path], f"{name} has no {old!r}"
        path.write_text(before[path].replace(old, new, 1))

    yield change
    for path, text in before.items():
        path.write_text(text)


def test_a_second_repro_runs_nothing(repository):
    assert ran(dvc(repository, "repro")) == set()


def test_numbers_come_back_from_the_cache_without_an_evaluation(repository):
    """As after a clone and `dvc pull`: git has no file below artifacts/."""
    folder = repository / "artifacts" / "demo" / "metrics"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    dvc(repository, "checkout")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before and before
    assert ran(dvc(repository, "repro")) == set()


def test_a_mixture_weight_makes_stale_the_mixture_and_no_ingest(repository, edit):
    edit("params.yaml", "fleet_delta: {weight: 1.0", "fleet_delta: {weight: 3.0")
    assert stale(repository) == {"mix", "report"}


def test_what_a_spec_says_about_licences_and_errata_makes_nothing_stale(repository, edit):
    edit("data_specs/fleet_delta.yaml", "licence:", "# a comment\nlicence:")
    assert stale(repository) == set()


def test_what_can_change_no_byte_makes_nothing_stale_and_reporting_the_report_alone(repository, edit):
    outside = [path for room in OUTSIDE for path in sorted((ROOT / "whale" / room).rglob("*.py"))]
    outside += [ROOT / "whale/run.py", ROOT / "whale/cli.py"]
    assert len(outside) > 80
    for path in outside:
        edit(path.relative_to(ROOT).as_posix(), "", "# edited\n")
    assert stale(repository) == set()
    edit("whale/reporting/report.py", "\n", "\n# edited\n")
    assert stale(repository) == {"report"}


def test_an_editors_file_in_a_folder_of_code_makes_nothing_stale_and_a_template_the_report(repository, edit):
    for name in ("report.py.orig", ".report.py.swp", ".#report.py", "notes", "templates/.page.html.swp"):
        (repository / "whale/reporting" / name).write_text("x")
        assert stale(repository) == set(), name
    edit("whale/reporting/templates/page.html", "", "<!-- edited -->")
    assert stale(repository) == {"report"}


def test_a_file_of_the_evaluation_retrains_nothing(repository, edit):
    edit("whale/evaluation/measuring/rollouts/fidelity.py", "\n", "\n# edited\n")
    assert stale(repository) and stages(stale(repository)) <= {"evaluate_video", "evaluate_uncertainty", "report"}


def test_a_new_dynamics_size_trains_alone(repository, edit):
    entry = yaml.safe_dump(
        load_yaml(ROOT / "params.yaml")["train_dynamics"]["full"], default_flow_style=True, width=999
    )
    edit("params.yaml", "train_dynamics:\n", f"train_dynamics:\n  bigger: {entry}")
    assert stale(repository) == {"train_dynamics@bigger", "report"}


def test_one_dataset_s_spec_reruns_its_ingest_and_what_follows_and_no_other_ingest(repository, edit):
    edit("data_specs/fleet_delta.yaml", "min_steps: ", "min_steps: 1")
    assert stale(repository) == {"ingest@fleet_delta"}
    assert ran(dvc(repository, "repro", "mix")) == {"ingest@fleet_delta", "mix"}
    assert {"train_tokenizer", "train_behavior", "train_dynamics@full"} <= stale(repository)


def test_a_28th_dataset_is_one_yaml_and_one_weight_and_runs_its_own_chain(repository, edit):
    """No other dataset is ingested, and no code is touched."""
    text = (ROOT / "data_specs" / "fleet_delta.yaml").read_text().replace("fleet_delta", "my_robot")
    spec = repository / "data_specs" / "my_robot.yaml"
    raw = repository / "data_specs" / "sources" / "my_robot.json"
    raw.parent.mkdir(exist_ok=True)
    spec.write_text(text)
    raw.write_text("{}")
    try:
        line = "my_robot: {raw: data_specs/sources/my_robot.json, role: pretrain}"
        edit("params.yaml", "datasets:\n", f"datasets:\n  {line}\n")
        edit("params.yaml", "  weights:\n", "  weights:\n    my_robot: {weight: 1.0, source: ours}\n")
        assert ran(dvc(repository, "repro", "mix")) == {"ingest@my_robot", "mix"}
        assert {name for name in stale(repository) if name.startswith(("ingest", "collect"))} == set()
        assert {"train_tokenizer", "train_behavior", "pretokenize@my_robot"} <= stale(repository)
    finally:
        spec.unlink()
        raw.unlink()
