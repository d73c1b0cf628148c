"""The stage on the fleet's simulator: the same bytes twice, also after a kill; floors, gate and protocol."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_optimization import run_stage, values

from whale.control.policy import PixelPolicy

TESTS = Path(__file__).parents[1]
METHODS = ["cloning_all", "cloning_best", "none", "entropy", "ensemble", "retracing"]


@pytest.fixture(scope="module")
def straight(project, tmp_path_factory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("straight")
    return run_stage(project, root / "out", root / "work")


def test_a_killed_run_goes_on_to_the_same_bytes(project, straight, tmp_path):
    out, work = tmp_path / "killed", tmp_path / "work"
    command = [sys.executable, str(TESTS / "tiny_optimization.py"), str(project), str(out), str(work)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    reached, deadline = work / "ensemble.0" / "step-00000001", time.monotonic() + 120
    while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and reached.exists() and not (work / "retracing.1").exists()
    before = (work / "cloning_all.0/step-00000002/state.json").stat().st_mtime_ns
    assert run_stage(project, tmp_path / "out", work) == straight
    assert (work / "cloning_all.0/step-00000002/state.json").stat().st_mtime_ns == before  # not made again


def test_every_method_has_its_numbers_beside_the_expert_and_the_gate(straight):
    found = json.loads(straight["metrics.json"])
    for method in ("expert", *METHODS):
        low, value, high = (found[f"{method}.success{end}"] for end in (".low", "", ".high"))
        assert 0 <= low <= value <= high <= 1
    for method in METHODS[3:]:
        assert found[f"{method}.alpha"] > 0 and f"{method}.minus_cloning_best.low" in found
        assert (method == "none") != (f"{method}.minus_none.low" in found)
    assert found["none.alpha"] == 0 and found["none.mean_penalty"] == 0
    assert found["gate.passed"] == (found["gate.difference"] > 0) == (found["status"] == "measured")
    for word in ("metric=policy_success", "arena=fleet simulator", "task=open_bin", "seeds=0,1", "horizon=2"):
        assert word in found["protocol"]


def test_the_mean_penalty_of_the_first_round_is_the_one_asked_for(straight):
    for method in METHODS[3:]:
        for seed in (0, 1):
            records = json.loads(straight[f"{method}.{seed}/records.json"])
            assert records[0]["penalty"] == pytest.approx(values()["imagination"]["mean_penalty"], rel=1e-5)
            assert [record["steps"] for record in records] == [4, 8]


def test_curves_of_imagination_begin_with_the_cloned_policy(straight, tmp_path):
    (tmp_path / "curves.npz").write_bytes(straight["curves.npz"])
    with np.load(tmp_path / "curves.npz") as arrays:
        assert arrays["none.steps"].tolist() == [0, 4, 8] and arrays["cloning_best.steps"].tolist() == [6]
        assert arrays["none.success"].shape == (2, 3, 3)
        np.testing.assert_array_equal(arrays["entropy.success"][:, 0], arrays["cloning_best.success"][:, -1])


def test_seeds_learn_unlike_policies_and_all_of_them_see_alike(straight, tmp_path):
    for name in ("none.0", "none.1", "entropy.0"):
        (tmp_path / name).mkdir()
        for file in ("model.safetensors", "config.json"):
            (tmp_path / name / file).write_bytes(straight[f"{name}/{file}"])
    one, other, entropy = (PixelPolicy.restore(tmp_path / name) for name in ("none.0", "none.1", "entropy.0"))
    assert one.basis.equal(other.basis) and not one.first.weight.equal(other.first.weight)
    assert not one.last.weight.equal(entropy.last.weight)
