"""What a stage process leaves in its record: undeclared reads, code on a dirty tree, earlier tries."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from whale.audit.audit import audit
from whale.audit.checks.completeness import completeness
from whale.audit.questions.code import code
from whale.audit.run_graph import RunGraph

ROOT = Path(__file__).parents[2]
TOY = """
import sys, time
from pathlib import Path
from typing import Annotated
from whale.common.stage_args import StageArgs

def look_elsewhere():
    import shutil, tempfile
    folder = Path(tempfile.mkdtemp())
    (folder / "logs").mkdir()
    shutil.rmtree(folder)  # opens `logs` relative to a folder that is open, not to the project
    open("toy.egg-info/entry_points.txt").read()

def look_into_the_environment():
    import tempfile
    with tempfile.NamedTemporaryFile("w") as file:
        open(file.name).read()
    getattr(sys.modules["builtins"], "__imp" + "ort__")("other")

class Args(StageArgs):
    source: Path
    weights: Annotated[dict, lambda item: {"path": "data.txt", "sha256": PINNED} if item == "pinned" else {}]

def run(args, run):
    (run.out / "result").write_text(args.source.read_text())
    if args.item == "described": run.add_described([Path("data.txt")])
    if args.item in ("peek", "pinned", "described"): open("data.txt").read()
    if args.item == "import":
        sys.path.insert(0, "pipelines"); name = "hidden"; getattr(sys.modules["builtins"], "__imp" + "ort__")(name)
    if args.item == "strange": look_elsewhere()
    if args.item == "installed": look_into_the_environment()
    if args.item == "edited":
        run.beforehand.code_state()  # git has looked by the time that somebody edits
        open("pipelines/toy.py", "a").write("VALUE = 2")
    if args.item == "wait": print("waiting", flush=True); [time.sleep(0.1) for _ in range(6000)]
""".replace("PINNED", repr(hashlib.sha256(b"raw").hexdigest()))


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pipelines").mkdir()
    Path("pipelines/__init__.py").touch()
    Path("pipelines/toy.py").write_text(TOY)
    Path("pipelines/hidden.py").write_text("VALUE = 1\n")
    Path("toy.egg-info").mkdir()
    for name in ("source.txt", "data.txt", "toy.egg-info/entry_points.txt"):
        Path(name).write_text("raw")
    Path(".gitignore").write_text("artifacts\n.whale\nwork\n__pycache__\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    return tmp_path


def git(*arguments):
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def start(item, python=sys.executable, **variables):
    command = [python, "-m", "whale.run", "toy", "--item", item, "--source", "source.txt", "--out", "artifacts/o"]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT), **variables}, stdout=-1, text=True)


def run_toy(item, **environment):
    process = start(item, **environment)
    process.communicate(timeout=600)
    assert process.returncode == 0
    return RunGraph.load().runs[-1]


def verdict(**options):
    return audit("artifacts/o", **({"deep": False, "strict": False, "expect_head": None} | options))


def test_a_declared_run_on_a_commit_is_complete_also_strictly():
    run = run_toy("plain")
    assert run.code["commit"] == git("rev-parse", "HEAD") and run.code["dirty"] is False
    assert json.loads(run.byproduct("opened.json"))["undeclared_files"] == []
    assert verdict(strict=True).findings == []


def test_a_stage_of_dvc_says_its_place_and_what_it_reads_for_that_is_no_undeclared_input(project, capfd):
    Path("dvc.yaml").write_text("stages: {toy: {foreach: '${toys}', do: {cmd: x}}, last: {cmd: x}}\n")
    Path("params.yaml").write_text("toys: {odd: 1, plain: 2}\n")
    opened = json.loads(run_toy("plain", DVC_STAGE="toy@plain").byproduct("opened.json"))
    assert "stage 2 of 3\n" in capfd.readouterr().err
    assert (opened["undeclared_files"], opened["undeclared_modules"]) == ([], [])
    assert "dvc.yaml" not in opened["settings"]


@pytest.mark.parametrize(("item", "named"), [("peek", "data.txt"), ("import", "pipelines/hidden.py")])
def test_t10_an_undeclared_file_or_module_is_named_and_makes_the_lineage_incomplete(item, named):
    run = run_toy(item)
    assert named in run.byproduct("opened.json").decode()
    report = verdict()
    assert report.code == 4 and "opened.json" in str(report.findings[0])


def test_code_that_is_edited_while_it_runs_is_named_and_the_record_holds_what_it_began_with():
    before = hashlib.sha256(Path("pipelines/toy.py").read_bytes()).hexdigest()
    run = run_toy("edited")
    assert json.loads(run.byproduct("closure.json"))["pipelines/toy.py"]["sha256"] == before
    assert run.code["dirty"] is False
    assert json.loads(run.byproduct("opened.json"))["edited_meanwhile"] == ["pipelines/toy.py"]
    report = verdict()
    assert report.code == 4 and "edited while it ran" in str(report.findings[0])
    assert "toy@edited: code as at the beginning" in completeness(run, RunGraph.load())["missing"]


def test_folders_of_others_and_what_pip_wrote_are_no_undeclared_reads():
    assert json.loads(run_toy("strange").byproduct("opened.json"))["undeclared_files"] == []
    assert verdict(strict=True).findings == []


def test_a_virtual_environment_of_any_name_and_temporary_files_inside_the_project_are_the_environments():
    """`python -m venv env` and TMPDIR=scratch: packages and their data are recorded by package."""
    Path(".git/info/exclude").write_text("env\nscratch\n")
    Path("scratch").mkdir()
    venv.create("env", symlinks=True)
    package = Path(f"env/lib/python3.{sys.version_info.minor}/site-packages/other")
    package.mkdir()
    (package / "__init__.py").write_text(
        "import pathlib\nTEXT = pathlib.Path(__file__).with_name('t.json').read_text()\n"
    )
    (package / "t.json").write_text("{}")
    path = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    run = run_toy("installed", python="env/bin/python", PYTHONPATH=path, TMPDIR=str(Path("scratch").absolute()))
    opened = json.loads(run.byproduct("opened.json"))
    assert (opened["undeclared_files"], opened["undeclared_modules"]) == ([], [])
    assert verdict(strict=True).findings == []


def test_a_file_that_the_parameters_name_with_its_sha256_is_declared_by_that_and_with_other_bytes_is_not():
    assert json.loads(run_toy("pinned").byproduct("opened.json"))["undeclared_files"] == []
    Path("data.txt").write_text("other")
    assert json.loads(run_toy("pinned").byproduct("opened.json"))["undeclared_files"] == ["data.txt"]


def test_files_that_an_input_describes_are_declared_by_that():
    assert json.loads(run_toy("described").byproduct("opened.json"))["undeclared_files"] == []
    assert verdict(strict=True).findings == []


def test_t9_a_dirty_tree_is_shown_refused_when_strict_and_its_patch_gives_the_tree_again():
    Path("pipelines/toy.py").write_text(TOY.replace("range(6000)", "range(601)"))
    run = run_toy("plain")
    assert run.code["dirty"] and b"range(601)" in run.byproduct("code.patch")
    assert code(run)["tree_again"] == "yes"
    assert (verdict().code, verdict(strict=True).code) == (0, 4)
    assert verdict(strict=True).findings[0].file == run.byproducts["code.patch"][0]


def test_t9_a_commit_amended_away_is_missing():
    run_toy("plain")
    git("commit", "-q", "--amend", "-m", "another")
    git("reflog", "expire", "--expire=now", "--all")
    git("gc", "-q", "--prune=now")
    report = verdict()
    assert report.code == 2 and report.findings[0].file == "lineage/ledger.jsonl"


def test_tries_that_ended_badly_enter_the_record_of_the_one_that_ended_well():
    Path("pipelines/toy.py").write_text(TOY.replace('args.item == "wait"', 'not Path(".whale/go").exists()'))
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = start("plain")
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        process.communicate(timeout=600)
    assert not Path("lineage/ledger.jsonl").exists()
    Path(".whale/go").touch()
    run = run_toy("plain")
    assert [each["how"] for each in json.loads(run.byproduct("attempts.json"))] == ["killed", "SystemExit"]
    assert run.internal["earlier_attempts"] == 2 and not list(Path(".whale/attempts").iterdir())
