"""`whale`: the exit codes of the one table, one JSON object, help with an example; and profiles."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from tiny_shards import write_tiny_shards

from whale.cli import run
from whale.common.files import HOST

DVC = Path(sys.executable).with_name("dvc")
ROOT = Path(__file__).parents[1]
VERBS = ["init", "plan", "timings", "metrics", "doctor", "profile list", "profile use", "profile diff", "data link"]
VERBS += [
    "track sync",
    "evaluate video",
    "evaluate consistency",
    "data fetch",
    "data drop",
    "shards verify",
    "mix show",
    "mix export",
    "stats show",
    "stats export",
    "model counts",
    "model weights",
    "play",
    "policy evaluate",
    "rollout",
    "spec list",
    "spec check",
    "spec init",
    "spec preview",
]
VERBS += [f"lineage {verb}" for verb in ("show", "verify", "episodes", "env", "code", "licenses", "diff", "seen")]
VERBS += [f"lineage {verb}" for verb in ("leakage", "why", "affected", "completeness", "rederive", "prove", "export")]
VERBS += ["export", "fsck", "accept", "audit", "lineage taint add", "lineage taint list"]
VERBS += [f"lineage key {verb}" for verb in ("show", "new", "add", "revoke", "rotate", "replace-root")] + [
    "track verify"
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "profiles", "profiles")
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_an_example_of_the_verb_itself(verb, capsys):
    assert run([*verb.split(), "--help"]) == 0
    (example,) = re.findall(r"Example: whale (.*)", capsys.readouterr().out)
    assert example.startswith(verb)


def test_the_program_starts_without_what_only_some_verbs_need():
    """torch alone takes seconds to import, numpy and pydantic half a second; `whale --help` has a third of one."""
    heavy = ("torch", "ray", "mlflow", "tensorflow", "apache_beam", "cv2", "pyarrow", "numpy", "pydantic", "yaml")
    script = f"import sys, whale.cli; sys.exit(str([name for name in {heavy} if name in sys.modules] or ''))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_the_version_is_that_of_the_package(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"whale {version('whale-world-model')}\n"


def test_a_shell_completes_commands(monkeypatch):
    environment = os.environ | {"_WHALE_COMPLETE": "complete_bash", "COMP_WORDS": "whale lineage sh", "COMP_CWORD": "2"}
    command = [sys.executable, "-c", "import whale.cli; whale.cli.main()"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["show"]


def test_a_usage_error_shows_usage_and_example(capsys):
    assert run(["lineage", "verify"]) == 64
    said = capsys.readouterr().err
    assert "Usage: whale lineage verify" in said and "Example: whale lineage verify" in said
    assert run(["spec", "nope"]) == 64 and not capsys.readouterr().err.endswith("\n\n")


@pytest.mark.parametrize("arguments", [["bogus"], ["profile", "use"], ["timings", "--bogus"], []])
def test_wrong_usage_ends_with_64(arguments):
    assert run(arguments) == 64


def test_what_is_missing_ends_with_2_and_what_is_unknown_with_64(project, capsys):
    assert run(["metrics"]) == 2
    assert run(["timings"]) == 2
    assert run(["data", "link", "bridge_sample", "nowhere"]) == 2
    assert run(["data", "link", "../x", "."]) == 64
    assert run(["profile", "use", "nope"]) == 64
    assert "demo" in capsys.readouterr().err


def test_the_active_profile_is_listed_and_differs_from_itself_in_nothing(project, capsys):
    assert run(["profile", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["active"] == "demo"
    assert run(["profile", "diff", "demo"]) == 0


def test_an_edit_of_params_is_shown_and_never_overwritten_unasked(project, capsys):
    edited = Path("params.yaml").read_text().replace("seed: 0", "seed: 1", 1)
    Path("params.yaml").write_text(edited)
    assert run(["profile", "diff", "demo"]) == 1
    assert "seed" in capsys.readouterr().out
    assert run(["profile", "use", "demo"]) == 64
    assert Path("params.yaml").read_text() == edited
    assert run(["profile", "use", "demo", "--force"]) == 0
    assert Path("params.yaml").read_bytes() == Path("profiles/demo.yaml").read_bytes()


def test_metrics_are_flattened_and_filtered(project, capsys):
    Path("artifacts/demo/metrics").mkdir(parents=True)
    Path("artifacts/demo/metrics/evaluate_video.json").write_text('{"psnr": {"h4": 28.5}, "nll": 1.25}')
    assert run(["metrics", "--json", "--only", "psnr"]) == 0
    assert json.loads(capsys.readouterr().out) == {"evaluate_video.psnr.h4": 28.5}
    for form in ([], ["--json"]):
        assert run(["metrics", "--only", "pnsr", *form]) == 64
        assert "such as psnr" in capsys.readouterr().err


def test_timings_show_the_last_run_of_each_stage_and_the_total(project, capsys):
    for number, (finished, wall) in enumerate([("2026-01-01T00:00:00", 9.0), ("2026-01-02T00:00:00", 3.0)]):
        row = {"stage": "mix", "profile": "demo", "finished": finished, "wall_s": wall, "compute_s": 1.0}
        row |= {"overhead_s": wall - 1, "capture_s": 0.5, "peak_rss_mb": 1.0, "peak_child_rss_mb": 1.0}
        Path(f"lineage/runs/{number}").mkdir(parents=True)
        Path(f"lineage/runs/{number}/timings.json").write_text(json.dumps(row))
    assert run(["timings", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["total"] == {"wall_s": 3.0, "compute_s": 1.0, "overhead_s": 2.0, "capture_s": 0.5}


def test_raw_data_are_linked_and_described(project, capsys):
    source = project / "elsewhere"
    source.mkdir()
    (source / "a.tfrecord").write_bytes(b"episode")
    for _ in range(2):  # linking again replaces the link
        assert run(["data", "link", "bridge_sample", str(source)]) == 0
    assert "new or changed" not in capsys.readouterr().out
    assert (Path("raw/bridge_sample") / "a.tfrecord").read_bytes() == b"episode"
    assert str(project) not in (text := Path("data_specs/sources/bridge_sample.json").read_text())
    assert json.loads(text)["files"][0]["bytes"] == 7
    (source / "b.tfrecord").write_bytes(b"another")
    assert run(["data", "link", "bridge_sample", str(source)]) == 0
    assert "described 1 files: 1 are the same, 1 are new or changed" in capsys.readouterr().out
    assert run(["data", "link", "bridge_sample", str(source / "b.tfrecord")]) == 2
    assert "not a folder" in capsys.readouterr().err


def test_init_makes_a_private_site_cache_and_says_so_to_dvc(project, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "home"))
    for _ in range(2):
        assert run(["init"]) == 0
    site = project / "home/whale/dvc-site"
    assert site.stat().st_mode & 0o777 == 0o700
    assert Path(".dvc/config.local").read_text().count(str(site)) == 1


def test_a_project_that_was_moved_leaves_nothing_at_its_old_place(project, tmp_path_factory, monkeypatch):
    """DVC makes its site cache, of pickles, wherever the config says: never at a path of the project."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("home")))
    old, new = (tmp_path_factory.mktemp("places") / name for name in ("old", "new"))
    old.mkdir()
    monkeypatch.chdir(old)
    subprocess.run([DVC, "init", "-q", "--no-scm"], check=True, capture_output=True)
    assert run(["init"]) == 0
    monkeypatch.chdir(old.parent)
    old.rename(new)
    monkeypatch.chdir(new)
    subprocess.run([DVC, "status"], check=True, capture_output=True)
    assert not old.exists() and not (new / ".dvc/tmp/site").exists()


def test_init_removes_what_killed_stages_left_and_says_so(project, monkeypatch, capsys):
    """Where nothing has to run again, no stage would clear it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "home"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = Path(f"artifacts/demo/models/.full.tmp-{HOST}-{ended.pid}-{'a' * 32}")
    left.mkdir(parents=True)
    assert run(["init"]) == 0 and not left.exists() and left.name in capsys.readouterr().out


def test_raw_data_are_fetched_by_their_description_and_dropped_only_after_whole_shards(project, capsys):
    source = project / "bucket"
    source.mkdir()
    (source / "a.tfrecord").write_bytes(b"episode")
    assert run(["data", "link", "tiny", str(source)]) == 0
    assert run(["data", "fetch", "tiny", str(source), "--to", "copy"]) == 0
    assert Path("copy/a.tfrecord").read_bytes() == b"episode"
    assert run(["data", "fetch", "other", str(source), "--to", "copy"]) == 2
    assert run(["data", "drop", "tiny"]) == 2 and Path("raw/tiny").is_symlink()
    write_tiny_shards(Path("artifacts/demo/data/pretrain/shards/tiny"), "tiny", [5, 4])
    assert run(["data", "drop", "tiny", "--delete"]) == 0
    assert not source.exists() and not Path("raw/tiny").is_symlink()
    assert Path("data_specs/sources/tiny.json").is_file()


def test_statistics_are_shown_and_exported_for_others(project, capsys):
    folder = write_tiny_shards(project / "tiny", "tiny", [5, 4])
    assert run(["stats", "show", str(folder)]) == 0
    assert run(["stats", "export", str(folder), "--dialect", "openpi", "--out", "exported", "--json"]) == 0
    assert '"gripper_flipped": true' in capsys.readouterr().out
    assert Path("exported/tiny/norm_stats.json").is_file()
    assert run(["stats", "export", str(folder), "--dialect", "bogus", "--out", "exported"]) == 64
    assert run(["stats", "show", "nowhere"]) == 2


@pytest.mark.parametrize(
    "group", ["", "profile", "data", "spec", "lineage", "lineage taint", "lineage key", "stats", "mix"]
)
def test_a_list_of_commands_has_whole_sentences(group, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*group.split(), "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert listed and not [line for line in listed if not line.endswith(".") or line.endswith("...")]
