"""The guard: proven inputs, whole outputs or none, one writer, a derivation made of what decides the bytes."""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from whale.common.config import Config
from whale.common.errors import (
    BadDataError,
    BusyError,
    MismatchError,
    MissingInputError,
    RefusedError,
)
from whale.common.files import HOST, sha256_of_file
from whale.guard import lock
from whale.guard.stage import stage
from whale.lineage import ledger
from whale.seal import seal

ROOT = Path(__file__).parents[1]


class ToyConfig(Config):
    rate: float = 1.5


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    Path("source.txt").write_text("raw")
    return tmp_path


def arguments(**changes):
    values = {"item": None, "source": Path("source.txt"), "out": Path("artifacts/demo/toy")}
    return argparse.Namespace(**(values | {"metrics": Path("artifacts/demo/metrics/toy.json")} | changes))


def run_toy(config=None, text="made", **changes):
    with stage("toy", arguments(**changes), config or ToyConfig()) as run:
        (run.out / "result.txt").write_text(text)
        run.write_metrics({"loss": 0.5})
    return run


def records():
    return sorted(Path("lineage/runs").glob("*"))


def test_outputs_appear_sealed_and_together_with_metrics_and_statement():
    run = run_toy()
    assert json.loads(Path("artifacts/demo/toy/MANIFEST.json").read_text())["files"]["result.txt"]["bytes"] == 4
    assert Path("artifacts/demo/metrics/toy.json").read_text() == '{\n  "loss": 0.5\n}\n'
    (record,) = records()
    (entry,) = ledger.read()
    statement = entry.statement
    assert json.loads((record / "statement.dsse.json").read_text()) == entry.envelope
    names = {subject["name"] for subject in statement["subject"]}
    assert {"artifacts/demo/toy/result.txt", "artifacts/demo/toy/MANIFEST.json"} <= names
    used = {each["name"]: each["digest"] for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert used["source.txt"] == {"sha256": run.inputs["source"]}
    assert all(len(digest["sha256"]) == 64 for subject in statement["subject"] for digest in [subject["digest"]])


def test_an_exception_publishes_nothing_and_leaves_nothing():
    with pytest.raises(BadDataError), stage("toy", arguments(), ToyConfig()) as run:
        (run.out / "result.txt").write_text("half")
        run.write_metrics({"loss": 0.5})
        raise BadDataError("broken")
    assert not list(Path("artifacts").rglob("*.*"))
    assert not records()


def test_an_older_output_is_replaced_only_by_a_whole_one():
    run_toy(text="first")
    with pytest.raises(ValueError), stage("toy", arguments(), ToyConfig()) as run:
        (run.out / "result.txt").write_text("half")
        raise ValueError("a bug")
    assert Path("artifacts/demo/toy/result.txt").read_text() == "first"
    run_toy(text="second")
    assert Path("artifacts/demo/toy/result.txt").read_text() == "second"
    assert [path.name for path in Path("artifacts/demo").iterdir()] in (["toy", "metrics"], ["metrics", "toy"])


def test_no_clock_host_or_path_enters_an_output(project, tmp_path_factory, monkeypatch):
    digests = []
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path_factory.mktemp(name))
        Path("source.txt").write_text("raw")
        run_toy()
        digests.append(Path("artifacts/demo/toy/MANIFEST.json").read_bytes())
    assert digests[0] == digests[1]
    assert len(ledger.read()) == 1


def test_the_derivation_is_a_function_of_item_config_and_inputs_only():
    first = run_toy().identity
    assert run_toy().identity == first
    assert run_toy(out=Path("artifacts/demo/elsewhere")).identity == first
    assert run_toy(ToyConfig(rate=2.0)).identity != first
    assert run_toy(item="x").identity != first
    assert run_toy({"toy": ToyConfig(), "seed": 1}).identity != first
    Path("source.txt").write_text("RAW")
    assert run_toy().identity != first


def test_each_run_has_its_own_record_and_line_also_with_the_same_result():
    run_toy()
    run_toy()
    first, second = (entry.statement for entry in ledger.read())
    assert len(records()) == 2 and first["subject"] == second["subject"]
    run_toy(text="other")
    assert len(ledger.read()) == len(records()) == 3


def test_resume_state_is_keyed_by_the_derivation_and_older_state_is_named(capsys):
    with stage("toy", arguments(), ToyConfig()) as run:
        first = run.work
        (first / "step").write_text("3")
    assert first.as_posix().startswith("work/demo/toy/")
    with stage("toy", arguments(), ToyConfig()) as run:
        assert (run.work / "step").read_text() == "3"
    with stage("toy", arguments(), ToyConfig(rate=9.0)) as run:
        assert not list(run.work.iterdir())
        second = run.work
    assert f"an older state with other settings is in {first}\n" in capsys.readouterr().err
    with stage("toy", arguments(), ToyConfig(rate=8.0)) as run:
        assert run.work not in (first, second)
    said = capsys.readouterr().err
    assert first.name in said and second.name in said


def test_a_damaged_input_stops_the_stage_before_its_body():
    run_toy()
    chained = arguments(source=Path("artifacts/demo/toy"), out=Path("artifacts/demo/next"))
    with stage("toy", chained, ToyConfig()) as run:
        assert len(run.inputs["source"]) == 64
    Path("artifacts/demo/toy/result.txt").write_text("mad!")
    with pytest.raises(MismatchError, match=r"result\.txt"), stage("toy", chained, ToyConfig()):
        pytest.fail("the body ran")
    with pytest.raises(MissingInputError, match="absent"), stage("toy", arguments(source=Path("absent")), ToyConfig()):
        pytest.fail("the body ran")


def test_what_a_stage_never_opens_is_proven_by_size_and_the_record_says_so():
    run_toy()
    chained = arguments(source=Path("artifacts/demo/toy"), out=Path("artifacts/demo/next"))
    Path("artifacts/demo/toy/result.txt").write_text("mad!")
    with stage("toy", chained, ToyConfig(), unread={"source": ".txt"}):
        pass
    assert '"proven_by_size": {"source": ".txt"}' in json.dumps(ledger.read()[-1].statement)
    Path("artifacts/demo/toy/result.txt").write_text("longer")
    with pytest.raises(MismatchError, match=r"result\.txt"), stage("toy", chained, {}, unread={"source": ".txt"}):
        pytest.fail("the body ran")


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay():
    dead = subprocess.Popen(["true"])
    dead.wait()
    stale = Path(f"artifacts/demo/.toy.tmp-{HOST}-{dead.pid}-{'0' * 32}")
    alive = Path(f"artifacts/demo/.toy.tmp-{HOST}-1-{'0' * 32}")
    other = Path(f"artifacts/demo/.toy2.tmp-{HOST}-{dead.pid}-{'0' * 32}")
    for path in (stale, alive, other):
        path.mkdir(parents=True)
    run_toy()
    assert (stale.exists(), alive.exists(), other.exists()) == (False, True, False)


def test_a_second_writer_of_one_output_is_refused_with_the_first_ones_pid():
    output = Path("artifacts/demo/toy")
    held = lock.acquire(lock.lock_path(Path(".whale"), output), output)
    with pytest.raises(BusyError, match=f"pid {os.getpid()}"), stage("toy", arguments(), ToyConfig()):
        pytest.fail("the body ran")
    lock.release(held)
    run_toy()


def test_a_child_that_outlives_its_stage_keeps_the_lock():
    output = Path("artifacts/demo/toy")
    held = lock.acquire(lock.lock_path(Path(".whale"), output), output)
    orphan = subprocess.Popen(["sleep", "60"], close_fds=False)
    lock.release(held)
    with pytest.raises(BusyError):
        lock.acquire(lock.lock_path(Path(".whale"), output), output)
    orphan.kill()
    orphan.wait()
    lock.release(lock.acquire(lock.lock_path(Path(".whale"), output), output))


def test_the_state_folder_holds_a_private_ray_token(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    run_toy()
    token = Path(".whale/ray-token")
    assert token.stat().st_mode & 0o777 == 0o600 and len(token.read_text()) == 64
    assert os.environ["RAY_AUTH_MODE"] == "token" and os.environ["RAY_AUTH_TOKEN_PATH"] == str(token.absolute())


def test_compute_and_overhead_add_up_to_the_life_of_the_process():
    with stage("toy", arguments(), ToyConfig()) as run:
        with run.compute(), run.compute():
            pass
        run.add_compute(0.25)
    (record,) = records()
    timings = json.loads((record / "timings.json").read_text())
    assert timings["stage"] == "toy" and timings["compute_s"] == pytest.approx(0.25, abs=0.02)
    assert timings["wall_s"] == pytest.approx(timings["compute_s"] + timings["overhead_s"], abs=0.01)
    assert 0 < timings["capture_s"] < timings["overhead_s"]


TOY = """
import time
from pathlib import Path
from typing import Annotated
from whale.common.config import Config
from whale.common.errors import BadDataError
from whale.common.stage_args import StageArgs

class Args(StageArgs):
    source: Path
    toy: Annotated[object, lambda item: Config.load("toy") if item == "unconfigured" else None]

def run(args, run):
    (run.out / "half").write_text("x")
    if args.item == "bad": raise BadDataError("torn", file="a.tar")
    if args.item == "bug": raise ValueError("a bug")
    if args.item == "wrapped":
        try: print("waiting", flush=True); [time.sleep(0.1) for _ in range(6000)]
        except BaseException as error: raise RuntimeError(f"{error} [while running 'Map']") from None
    if args.item == "wait": print("waiting", flush=True); [time.sleep(0.1) for _ in range(6000)]
"""


def start_toy(item):
    Path("pipelines").mkdir(exist_ok=True)
    Path("pipelines/__init__.py").touch()
    Path("pipelines/toy.py").write_text(TOY)
    command = [
        sys.executable,
        "-m",
        "whale.run",
        "toy",
        "--item",
        item,
        "--source",
        "source.txt",
        "--out",
        "artifacts/o",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True)


@pytest.mark.parametrize(
    ("item", "code", "has_traceback"), [("bad", 65, False), ("unconfigured", 64, False), ("bug", 70, True)]
)
def test_a_process_ends_with_one_message_and_its_exit_code(item, code, has_traceback):
    process = start_toy(item)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == code
    assert ("Traceback" in stderr) == has_traceback
    assert not Path("artifacts/o").exists()


@pytest.mark.parametrize("item", ["wait", "wrapped"])  # Beam wraps whatever ends its work
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_unwinds_the_stage_and_leaves_nothing_half(item, number, code):
    process = start_toy(item)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == code, stderr
    assert not list(Path("artifacts").iterdir())


def test_a_folder_of_another_version_is_refused_with_the_command_that_makes_it_again():
    run_toy()
    path = Path("artifacts/demo/toy/lineage.json")
    summary = json.loads(path.read_text())
    assert summary["format_version"] == 2
    path.write_text(json.dumps(summary | {"format_version": 1, "code": {"closure_sha256": "0" * 64}}))
    seal(path.parent, sha256_of_file)
    chained = arguments(source=Path("artifacts/demo/toy"), out=Path("artifacts/demo/next"))
    with (
        pytest.raises(MismatchError, match=r"(?s)format_version.*dvc repro -f -s toy"),
        stage("toy", chained, ToyConfig()),
    ):
        pytest.fail("the body ran")


def test_what_decides_nothing_stands_in_no_output():
    """Neither code nor clock nor machine: equal results of other code are equal folders."""
    run_toy()
    text = "".join(path.read_text() for path in Path("artifacts").rglob("*.json"))
    (record,) = records()
    closure = json.loads((record / "closure.json").read_text())
    for each in closure.values():
        assert not any(str(each[name]) in text for name in ("md5", "sha256", "syntax"))
    (entry,) = ledger.read()
    build = entry.statement["predicate"]["buildDefinition"]
    assert build["internalParameters"]["derivation_sha256"] not in text
    assert len(entry.statement["predicate"]["runDetails"]["builder"]["version"]["guard_sha256"]) == 64


def link_itself(elsewhere):
    Path("artifacts/demo").mkdir(parents=True)
    Path("artifacts/demo/toy").symlink_to(elsewhere)


def link_above(elsewhere):
    Path("artifacts").mkdir()
    Path("artifacts/demo").symlink_to(elsewhere)


def link_to_nowhere(elsewhere):
    Path("artifacts").symlink_to(elsewhere / "gone")


def link_of_metrics(elsewhere):
    Path("artifacts/demo/metrics").mkdir(parents=True)
    Path("artifacts/demo/metrics/toy.json").symlink_to(elsewhere / "toy.json")


@pytest.mark.parametrize("spoil", [link_itself, link_above, link_to_nowhere, link_of_metrics], ids=lambda f: f.__name__)
def test_an_output_that_is_a_link_or_below_one_is_refused_before_any_work(tmp_path_factory, spoil):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    spoil(elsewhere)
    worked = []
    with pytest.raises(RefusedError, match="symbolic link"), stage("toy", arguments(), ToyConfig()):
        worked.append(1)
    assert not worked and not list(elsewhere.iterdir()) and not records()
    assert not [path for path in Path("artifacts").rglob(".*")]


@pytest.mark.parametrize("out", ["../toy", "artifacts/../../toy"])
def test_an_output_outside_of_the_project_is_refused_before_any_work(out):
    with (
        pytest.raises(RefusedError, match="outside the project"),
        stage("toy", arguments(out=Path(out)), ToyConfig()),
    ):
        raise AssertionError
    assert not Path("../toy").exists()
