"""`whale accept` on a real DVC project in git: edits that change nothing run nothing, others are refused by name."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rlds_fixture import episodes, spec_values, write_rlds

from whale.audit import accept as accepting
from whale.audit.audit import audit
from whale.audit.checks.completeness import completeness
from whale.audit.exports.bundle import write_statements
from whale.audit.questions.show import show
from whale.audit.run_graph import RunGraph
from whale.cli import run as whale
from whale.lineage.acceptance import Acceptance, acceptance_statement
from whale.lineage.closure import closure_digest, code_files
from whale.lineage.trust import sign_into_ledger

ROOT = Path(__file__).parents[1]
DVC = str(Path(sys.executable).parent / "dvc")
STAGE = '''"""Source -> its lines, scaled."""
from pathlib import Path
from whale.common.stage_args import StageArgs
from pipelines.scaling import scaled

class Args(StageArgs):
    source: Path

def run(args, run):
    for name in run.sampled(["one", "two"]):
        (run.out / name).write_text("\\n".join(scaled(args.source.read_text().split())))
'''
SCALING = '''"""How numbers are scaled."""
FACTOR = 2.0


def scaled(texts):
    """Each number times FACTOR."""
    found = []
    for text in texts:
        number = float(text)
        found.append(str(number * FACTOR))
    return found
'''
DVC_YAML = """
stages:
  toy:
    cmd: python -m whale.run toy --source source.txt --out artifacts/demo/toy
    deps: [source.txt, pipelines/toy.py, pipelines/scaling.py]
    outs: [artifacts/demo/toy]
  user:
    cmd: python -m whale.run user --source artifacts/demo/toy/one --out artifacts/demo/user
    deps: [artifacts/demo/toy/one, pipelines/user.py]
    outs: [artifacts/demo/user]
"""
USER = STAGE.replace("from pipelines.scaling import scaled\n", "").replace("scaled(args", "sorted(args")
OUT = "artifacts/demo/toy"
SAME = {
    "comment": ("        number = float", "        # as text\n        number = float"),
    "docstring": ("times FACTOR.", "times the FACTOR above."),
    "layout": ("found.append(str(number * FACTOR))", "found.append(\n            str(number * FACTOR),\n        )"),
}
OTHER = {
    "local variable": ("number", "value", "scaled"),
    "constant": ("FACTOR = 2.0", "FACTOR = 3.0", "the module itself"),
    "order": (
        "number = float(text)\n        found.append(str(number * FACTOR))",
        "found.append(str(number * FACTOR))\n        number = float(text)",
        "scaled",
    ),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("accept")
    files = {"pipelines/toy.py": STAGE, "pipelines/scaling.py": SCALING, "pipelines/user.py": USER}
    files |= {"dvc.yaml": DVC_YAML, "source.txt": "1 2 3\n", "params.yaml": "seed: 0\n", "constraints.txt": ""}
    files |= {"pipelines/__init__.py": "", ".gitignore": "artifacts\n.whale\nwork\n__pycache__\n.dvc/tmp\n.dvc/cache\n"}
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    (root / ".dvc").mkdir()
    settings = "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    (root / ".dvc/config").write_text(settings)
    shutil.copy(ROOT / ".dvcignore", root)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    assert ran(root) == ["toy", "user"]
    return root


@pytest.fixture
def project(built, tmp_path, monkeypatch):
    shutil.copytree(built, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    for name in [name for name in os.environ if name.startswith("DVC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "project"


def git(root, *arguments):
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def dvc(root, *arguments):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    own = root if (root / "whale").is_dir() else ROOT
    environment |= {"PATH": path, "PYTHONPATH": str(own), "SHELL": "/bin/sh", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run([DVC, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ran(root):
    return [line.split("'")[1] for line in dvc(root, "repro").splitlines() if line.startswith("Running stage")]


def stale(root):
    return sorted(json.loads(dvc(root, "status", "--json")))


def edit(project, old, new):
    path = project / "pipelines/scaling.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def accept(capsys, *arguments):
    capsys.readouterr()
    code = whale(["accept", *arguments, "--json"])
    said = capsys.readouterr()
    assert said.out, said.err
    return code, json.loads(said.out)["stages"]


def test_edits_of_comments_docstrings_and_layout_are_accepted_and_the_auditor_sees_each(project, capsys):
    for old, new in SAME.values():
        edit(project, old, new)
        assert stale(project) == ["toy"]
        code, (row,) = accept(capsys)
        assert (code, row["outcome"], row["basis"]) == (0, "accepted", "syntax")
        assert row["files"] == ["pipelines/scaling.py"] and stale(project) == []
    assert ran(project) == []
    assert accept(capsys) == (0, [])
    report = audit(OUT, deep=True, strict=False, expect_head=None)
    assert report.findings == [] and report.checked["edits of code accepted by equal syntax"] == 3
    graph = RunGraph.load()
    target = graph.find(OUT)
    assert [row["basis"] for row in show(target, graph)["accepted"]] == ["syntax"] * 3
    found = completeness(target.run, graph)
    assert found["missing"] == [] and len(found["accepted"]) == 3
    assert len(completeness(graph.find("artifacts/demo/user").run, graph)["accepted"]) == 3


@pytest.mark.parametrize("name", OTHER)
def test_any_other_edit_is_refused_with_the_definition_and_the_file(project, capsys, name):
    old, new, definition = OTHER[name]
    edit(project, old, new)
    before = (project / "dvc.lock").read_bytes(), (project / "lineage/ledger.jsonl").read_bytes()
    code, (row,) = accept(capsys, "toy")
    assert (code, row["outcome"], row["why"]) == (3, "refused", [f"pipelines/scaling.py: {definition}"])
    assert ((project / "dvc.lock").read_bytes(), (project / "lineage/ledger.jsonl").read_bytes()) == before
    assert stale(project) == ["toy"]


def test_a_persons_word_is_taken_and_shown_ever_after(project, capsys):
    edit(project, *OTHER["local variable"][:2])
    code, (row,) = accept(capsys, "--because", "a name only")
    assert (code, row["outcome"], row["basis"]) == (0, "accepted", "claim") and stale(project) == []
    edit(project, *SAME["docstring"])
    assert accept(capsys)[1][0]["basis"] == "syntax"  # on top of what was claimed
    graph = RunGraph.load()
    shown = show(graph.find("artifacts/demo/user"), graph)["accepted"]
    assert [(each["basis"], each["because"]) for each in shown] == [("claim", "a name only"), ("syntax", None)]
    assert audit("artifacts/demo/user", deep=True, strict=False, expect_head=None).findings == []
    write_statements(graph.find("artifacts/demo/user"), graph, project)
    assert len((project / "acceptances.intoto.jsonl").read_text().splitlines()) == 2


def test_a_sample_is_run_with_both_codes_and_other_bytes_count_more_than_a_word(project, capsys):
    edit(project, *OTHER["local variable"][:2])
    code, (row,) = accept(capsys, "--check", "--because", "a name only")
    assert code == 0 and row["checked"]["equal"] and row["outcome"] == "accepted"
    assert RunGraph.load().acceptances(RunGraph.load().find(OUT).run)[0].checked["equal"]
    edit(project, *OTHER["constant"][:2])
    code, (row,) = accept(capsys, "--check", "--because", "no matter")
    assert (code, row["outcome"], row["why"]) == (3, "refused", ["one"])


def test_what_is_stale_for_another_reason_or_was_damaged_is_refused(project, capsys):
    edit(project, *SAME["comment"])
    (project / "source.txt").write_text("4\n")
    code, (row,) = accept(capsys)
    assert code == 3 and "more than its code differs: source.txt" in row["why"][0]
    (project / "source.txt").write_text("1 2 3\n")
    (project / OUT / "one").chmod(0o644)
    (project / OUT / "one").write_text("9")
    code, rows = accept(capsys, "toy")
    assert code == 3 and rows[0]["outcome"] == "refused"


def test_a_dry_run_and_the_plan_say_what_could_be_accepted_and_sign_nothing(project, capsys):
    edit(project, *SAME["comment"])
    before = (project / "lineage/ledger.jsonl").read_bytes()
    assert accept(capsys, "--dry-run")[1][0]["outcome"] == "could be accepted"
    from whale.commands.project.plan import stale_stages

    assert "whale accept toy" in stale_stages()["toy"][0]
    edit(project, *OTHER["constant"][:2])
    assert accept(capsys, "--dry-run")[1][0]["outcome"] == "would be refused"
    assert "accept" not in stale_stages()["toy"][0]
    assert (project / "lineage/ledger.jsonl").read_bytes() == before


def test_an_edit_that_is_taken_back_leaves_nothing_wrong(project, capsys):
    """DVC restores the entry of then without a run: it is that of the run before its edit was accepted."""
    before = (project / "pipelines/scaling.py").read_text()
    edit(project, *SAME["comment"])
    assert accept(capsys)[1][0]["outcome"] == "accepted"
    (project / "pipelines/scaling.py").write_text(before)
    assert ran(project) == []
    assert audit(OUT, deep=True, strict=False, expect_head=None).findings == []


def test_a_forged_acceptance_is_a_finding(project, capsys):
    edit(project, *OTHER["constant"][:2])
    graph = RunGraph.load()
    run = graph.find(OUT).run
    rows = code_files(project, [Path("pipelines/scaling.py")])
    then = graph.code_now(run)["pipelines/scaling.py"]
    honest = Acceptance(
        stage="toy", statement=run.id, accepted="2026-11-30T00:00:00+00:00", basis="syntax", because=None,
        files=rows, before={"pipelines/scaling.py": then["sha256"]}, commit=None, tree=None,
        closure_sha256=closure_digest(dict(sorted((graph.code_now(run) | rows).items()))),
        outputs={name: run.subjects[name] for name in run.outputs},
    )  # fmt: skip
    lie = {"pipelines/scaling.py": rows["pipelines/scaling.py"] | {"syntax": then["syntax"]}}
    changes = [{}, {"files": lie}, {"files": lie, "before": {"pipelines/scaling.py": "0" * 64}}, {"stage": "other"}]
    for change in changes:
        ledger = (project / "lineage/ledger.jsonl").read_bytes(), (project / "lineage/HEAD").read_bytes()
        sign_into_ledger(acceptance_statement(replace(honest, **change)))
        found = [each for each in audit(OUT, deep=True, strict=False, expect_head=None).findings]
        assert any("acceptance of edited code does not hold" in each.what for each in found), change
        (project / "lineage/ledger.jsonl").write_bytes(ledger[0])
        (project / "lineage/HEAD").write_bytes(ledger[1])
    statement = acceptance_statement(honest)
    statement["predicate"]["more"] = 1
    sign_into_ledger(statement)
    assert any(
        "not an acceptance" in each.what for each in audit(OUT, deep=True, strict=False, expect_head=None).findings
    )


def test_a_blank_word_and_a_stage_that_is_none_are_refused(project, capsys):
    edit(project, *OTHER["constant"][:2])
    assert accept(capsys, "--because", " ")[0] == 3
    assert accept(capsys, "--because", " ", "--dry-run")[1][0]["outcome"] == "would be refused"
    assert whale(["accept", "toyy"]) == 64


def test_what_is_edited_while_dvc_is_told_is_not_accepted(project, capsys, monkeypatch):
    edit(project, *SAME["comment"])
    before = (project / "dvc.lock").read_bytes()
    sign = accepting.sign_into_ledger

    def edited_meanwhile(statement):
        edit(project, *OTHER["constant"][:2])
        return sign(statement)

    monkeypatch.setattr(accepting, "sign_into_ledger", edited_meanwhile)
    assert whale(["accept"]) == 3
    assert (project / "dvc.lock").read_bytes() == before and stale(project) == ["toy"]


def test_a_sample_is_no_output(project, monkeypatch):
    monkeypatch.setenv("WHALE_SAMPLE", "1")
    (project / "pipelines/scaling.py").write_text(SCALING + "MORE = 1\n")
    with pytest.raises(AssertionError):
        ran(project)


def test_editors_files_beside_the_code_make_nothing_stale(project):
    for name in ("scaling.py.orig", ".scaling.py.swp", ".#scaling.py", "notes"):
        (project / "pipelines" / name).write_text("x")
    assert stale(project) == []


def test_other_code_with_equal_results_stops_the_cascade(project):
    """No output says which code made it, so what follows need not run."""
    edit(project, "number * FACTOR", "FACTOR * number")
    assert stale(project) == ["toy"]
    assert ran(project) == ["toy"]
    assert audit("artifacts/demo/user", deep=True, strict=False, expect_head=None).findings == []


INGEST = """
stages:
  ingest:
    foreach: ${datasets}
    do:
      cmd: python -m whale.run ingest --item ${key} --raw ${item.raw} --out artifacts/demo/data/pretrain/shards/${key}
      deps: ["${item.raw}", pipelines/ingest.py, whale/data/ingest]
      outs: ["artifacts/demo/data/pretrain/shards/${key}"]
"""


@pytest.fixture
def fleet_like(tmp_path, monkeypatch):
    """A project with one ingested dataset whose first source file holds its test split."""
    root = tmp_path / "project"
    for name in ("whale", "pipelines"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    spec = spec_values(source=spec_values()["source"] | {"splits": {"train": "train", "val": "val", "test": "test"}})
    ingest = {"resolution": 24, "jpeg_quality": 95, "shard_bytes": 2**16, "max_bad": 0}
    params = {"profile": "demo", "seed": 0, "datasets": {"tiny": {"raw": "raw/tiny/1.0.0", "role": "pretrain"}}}
    params |= {
        "ingest": ingest | {"quality": {"policy": "fail", "budget": 0}},
        "evaluate_video": {"pretrain_splits": []},
    }
    files = {"dvc.yaml": f"vars: [params.yaml]{INGEST}", "params.yaml": yaml.safe_dump(params), "constraints.txt": ""}
    files |= {"data_specs/tiny.yaml": yaml.safe_dump(spec)}
    files |= {".gitignore": "artifacts\n.whale\nwork\n__pycache__\n.dvc\nraw\n"}
    files |= {".dvc/config": "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"}
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    shutil.copy(ROOT / ".dvcignore", root)
    rest = {"test": [episodes([5])], "val": [episodes([5], seed=3)]}
    write_rlds(root / "raw", rest | {"train": [episodes([6, 7], seed=1), episodes([8], seed=2)]})
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    monkeypatch.chdir(root)
    monkeypatch.setenv("PYTHONPATH", str(root))
    assert ran(root) == ["ingest@tiny"]
    return root


def test_the_sample_of_an_ingest_is_a_file_of_the_train_split(fleet_like, capsys):
    code = fleet_like / "whale/data/ingest/statistics.py"
    code.write_text(code.read_text() + "\n\nUNUSED = 1\n")
    status, (row,) = accept(capsys, "--check", "--because", "nobody reads it")
    assert status == 0 and row["checked"]["equal"], row
    code.write_text(code.read_text().replace('"q01": 0.01', '"q01": 0.02'))
    status, (row,) = accept(capsys, "--check", "--because", "no matter")
    assert (status, row["outcome"], row["checked"]["equal"]) == (3, "refused", False), row
