"""The start of a stage: what any later stage would refuse is told before the first one begins."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "data_specs", tmp_path / "data_specs")
    return tmp_path


def started(project):
    """As DVC starts the first stage; `--help` ends it where its work would begin."""
    environment = os.environ | {"DVC_STAGE": "collect@fleet_delta", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "whale.run", "collect", "--help"]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def changed(project, old, new, file="params.yaml"):
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new, 1))


def test_a_wrong_value_of_a_late_section_ends_the_first_stage_and_is_looked_at_once(project):
    right = (project / "params.yaml").read_text()
    assert started(project).returncode == 0
    remembered = (project / ".whale/values-checked").read_text()
    changed(project, "resamples:", "resmaples:")
    changed(project, "max_bad: 0", "max_bad: -1")
    done = started(project)
    assert done.returncode == 64 and "Traceback" not in done.stderr and "usage" not in done.stdout
    assert "resmaples" in done.stderr and "ingest.max_bad" in done.stderr and "nothing has run yet" in done.stderr
    assert (project / ".whale/values-checked").read_text() == remembered
    (project / "params.yaml").write_text(right)
    assert started(project).returncode == 0


def test_a_draft_among_the_specs_is_told_before_another_dataset_is_ingested(project):
    changed(project, "state:", "state:   # ? by name", "data_specs/fleet_delta.yaml")
    done = started(project)
    assert (
        done.returncode == 64 and "a draft with open questions" in done.stderr and "ingest@fleet_delta" in done.stderr
    )
