"""scripts/install.py: what a person sees while packages come, and what happens where uv cannot help."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "scripts" / "install.py"
SLOW = """
import sys, time
for n in range(3):
    print('Collecting p', n, flush=True)
    time.sleep(0.5)
sys.exit(3)
"""
STUB = '#!/bin/sh\necho "$0 $@" >> {calls}\nexit {code}\n'


@pytest.fixture
def install():
    spec = importlib.util.spec_from_file_location("install", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(path: Path, calls: Path, code: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STUB.format(calls=calls, code=code))
    path.chmod(0o755)


def test_it_says_how_far_the_installer_is_and_keeps_its_output(install, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(install, "INTERVAL_SECONDS", 0.1)
    assert install._follow([sys.executable, "-c", SLOW], tmp_path / "log") == 3
    told = [line.split("s  ")[1] for line in capsys.readouterr().out.splitlines() if "Collecting" in line]
    assert len(set(told)) > 1 and told == sorted(told)  # a busy machine may miss one, not all
    assert (tmp_path / "log").read_text() == "".join(f"Collecting p {n}\n" for n in range(3))


@pytest.mark.parametrize(("of_uv", "asked"), [(0, ["uv"]), (2, ["uv", "python"]), (None, ["python"])])
def test_pip_is_asked_where_uv_is_not_there_or_fails(install, tmp_path, monkeypatch, of_uv, asked):
    calls = tmp_path / "calls"
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:/usr/bin:/bin")
    program(tmp_path / "venv/bin/python", calls, 0)
    if of_uv is not None:
        program(tmp_path / "tools/uv", calls, of_uv)
    assert install._install(tmp_path / "venv", ["-e", "."], "log") == 0
    assert [Path(line.split()[0]).name for line in calls.read_text().splitlines()] == asked


def test_a_failure_shows_the_end_of_what_pip_said(install, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    program(tmp_path / "venv/bin/python", tmp_path / "calls", 7)
    (tmp_path / "venv/bin/python").write_text("#!/bin/sh\necho no matching distribution\nexit 7\n")
    assert install._install(tmp_path / "venv", ["-e", "."], "install.log") == 7
    said = capsys.readouterr().err
    assert "no matching distribution\nerror: pip failed" in said and "install.log" in said
