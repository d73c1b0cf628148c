"""`whale run`: data stages side by side under a real DVC, with the bytes and the dvc.lock of `dvc repro`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from whale.cli import run as whale
from whale.commands.project.plan import dvc_status
from whale.common.errors import WhaleError

NAMES = ("alpha", "beta", "gamma")
# A stage that writes what it read. With MEET it waits until another one runs at the same time.
STAGE = """
import os, sys, time
from pathlib import Path
out, *inputs = sys.argv[1:]
if os.environ.get("BREAK") == out:
    sys.exit("broken on purpose")
if os.environ.get("MEET") and out.startswith("shards/"):
    meeting = Path(os.environ["MEET"])
    (meeting / Path(out).name).touch()
    ends = time.monotonic() + 300
    while len(list(meeting.iterdir())) < 2:
        if time.monotonic() > ends:
            sys.exit("nobody came")
        time.sleep(0.05)
texts = [path.read_text() for each in inputs for path in sorted(Path(each).rglob("*")) if path.is_file()]
Path(out).mkdir(parents=True, exist_ok=True)
(Path(out) / "file").write_text(out + "".join(texts))
"""
STAGES = {
    "collect": {"foreach": "${collect}", "do": {"cmd": "python stage.py raw/${key}", "outs": ["raw/${key}"]}},
    "ingest": {
        "foreach": "${datasets}",
        "do": {"cmd": "python stage.py shards/${key} raw/all", "deps": ["raw/all"], "outs": ["shards/${key}"]},
    },
    "train_tokenizer": {"cmd": "python stage.py tokenizer shards", "deps": ["shards"], "outs": ["tokenizer"]},
    "pretokenize": {
        "foreach": "${datasets}",
        "do": {
            "cmd": "python stage.py tokens/${key} shards/${key} tokenizer",
            "deps": ["shards/${key}", "tokenizer"],
            "outs": ["tokens/${key}"],
        },
    },
    "report": {"cmd": "python stage.py report tokens", "deps": ["tokens"], "outs": ["report"]},
}


def write_project(root: Path) -> Path:
    root.mkdir()
    (root / "stage.py").write_text(STAGE)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False))
    params = {"collect": {"all": {}}, "datasets": {name: {} for name in NAMES}}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / ".dvc").mkdir()
    settings = f"[core]\n    no_scm = true\n    analytics = false\n    site_cache_dir = {root}/.dvc/tmp/site\n"
    (root / ".dvc/config").write_text(settings)
    return root


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(write_project(tmp_path / "project"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path / "project"


def made(root: Path) -> dict[str, bytes]:
    folders = ("raw", "shards", "tokenizer", "tokens", "report")
    return {str(p.relative_to(root)): p.read_bytes() for each in folders for p in sorted((root / each).rglob("file"))}


def locked(root: Path) -> dict:
    return yaml.safe_load((root / "dvc.lock").read_text())["stages"]


@pytest.mark.slow
def test_data_stages_meet_and_everything_is_as_after_dvc_repro(project, tmp_path, monkeypatch, capfd):
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    monkeypatch.setenv("MEET", str(meeting))
    assert whale(["run", "--jobs", "2"]) == 0
    monkeypatch.delenv("MEET")
    serial = write_project(tmp_path / "serial")
    subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=serial, check=True, capture_output=True)
    assert made(project) == made(serial) and len(made(project)) == 9
    assert locked(project) == locked(serial)
    capfd.readouterr()
    assert whale(["run", "--jobs", "2"]) == 0
    assert "started" not in capfd.readouterr().out  # nothing is out of date


@pytest.mark.slow
def test_a_stage_that_fails_is_named_and_the_next_run_does_what_is_left(project, monkeypatch, capfd):
    monkeypatch.setenv("BREAK", "shards/beta")
    assert whale(["run", "--jobs", "1"]) == 255
    said = capfd.readouterr()
    assert "ingest@beta" in said.err and "broken on purpose" in said.err
    assert "ingest@gamma: started" not in said.out and not Path("tokenizer").exists()
    monkeypatch.delenv("BREAK")
    before = Path("shards/alpha/file").stat().st_mtime_ns
    assert whale(["run", "--jobs", "1"]) == 0
    assert Path("report/file").is_file() and Path("shards/alpha/file").stat().st_mtime_ns == before


@pytest.mark.slow
def test_dry_runs_nothing_and_says_what_would_go_at_once(project, capfd):
    assert whale(["run", "--jobs", "3", "--dry"]) == 0
    assert "3 at once: collect@all" in capfd.readouterr().out and not Path("raw").exists()
    shutil.rmtree(".dvc/tmp", ignore_errors=True)


def test_outside_of_a_project_both_commands_say_so_in_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert whale(["run"]) == 64
    assert "run it from the project's root" in capsys.readouterr().err and not list(tmp_path.iterdir())
    with pytest.raises(WhaleError, match="dvc status failed") as error:
        dvc_status()
    assert isinstance(error.value.found, str) and error.value.found[0] not in "['"
